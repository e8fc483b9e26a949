"""What is wrong, or worth saying, about a line of user-data."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

MAX_FINDINGS = 200


class Severity(StrEnum):
    """Whether a context may be applied in spite of a finding: only an error forbids it."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


_RANK = (Severity.NOTE, Severity.WARNING, Severity.ERROR)


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark about one line.

    Shape: `line` and `column` begin at 1; `reader` is who would read the line; `key` is `section.key` or empty;
    `found` is the value that is wrong, empty for secret keys. Only who wrote the user-data may see `found`: a line
    gone wrong may hold a secret of its neighbour. Consoles, logs and the status never show it.
    """

    line: int
    severity: Severity
    message: str
    key: str = ""
    suggestion: str = ""
    column: int = 1
    reader: str = "nobody"
    found: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"line {self.line}: {self.remark}"

    @property
    def remark(self) -> str:
        """The finding in words, without the line."""
        name = f" {self.key}:" if self.key else ""
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{self.severity}:{name} {self.message}{hint}"

    def for_others(self) -> Finding:
        """The same without the value that was found."""
        return replace(self, found="")


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings by line; beyond `MAX_FINDINGS` one more says how many are not shown."""
    ordered = sorted(findings, key=lambda finding: (finding.line, finding.column))
    if len(ordered) <= MAX_FINDINGS:
        return tuple(ordered)
    rest = ordered[MAX_FINDINGS:]
    severity = max((item.severity for item in rest), key=_RANK.index)
    more = Finding(rest[0].line, severity, f"{len(rest)} more findings from here on")
    return (*ordered[:MAX_FINDINGS], more)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean X?` for the nearest known word; empty when none is near."""
    near = difflib.get_close_matches(word[:64], list(known), 1)
    return f"did you mean {near[0]}?" if near else ""
