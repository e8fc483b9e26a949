"""The blacklist: certificates and old revisions that a client refuses although they are signed.

A line is a certificate's fingerprint, as in a whitelist, or `<NAME REVISION`: of that repository, nothing below that
revision. What follows `#` is a comment. A line that is neither is an error: what its writer meant to forbid would else
be let through.
Source: docs/formats/repository.md, "Blacklist".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cernvm.core.digest import Digest
from cernvm.core.errors import LetterFormatError, RollbackError, SignatureError
from cernvm.fs.format.whitelist import format_fingerprint, parse_fingerprint

MAX_BLACKLIST_BYTES = 1 << 20

_REVISION = re.compile(r"<\s*([A-Za-z0-9._-]+)\s+([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Blacklist:
    """What is refused. Shape: `lowest_revisions` by repository, the lowest that is still allowed."""

    fingerprints: frozenset[Digest] = frozenset()
    lowest_revisions: Mapping[str, int] = field(default_factory=dict)

    def check_certificate(self, der: bytes, *, name: str) -> None:
        """Errors: `SignatureError` when the certificate (DER) is blacklisted."""
        for listed in self.fingerprints:
            if listed.algorithm.digest(der) == listed:
                raise SignatureError(
                    f"the certificate {format_fingerprint(listed)} that signed {name} is blacklisted"
                )

    def check_revision(self, revision: int, *, name: str) -> None:
        """Errors: `RollbackError` when the revision is blacklisted."""
        lowest = self.lowest_revisions.get(name, 0)
        if revision < lowest:
            raise RollbackError(
                f"revision {revision} of {name} is blacklisted: {lowest} is the lowest allowed",
                advice="another --url may be up to date",
            )


def parse_blacklist(text: str, *, where: str = "blacklist") -> Blacklist:
    """What the lines forbid; of several for one repository the highest revision counts.

    Errors: `LetterFormatError` naming the line.

    >>> parse_blacklist("<old.cern.ch 12").lowest_revisions
    {'old.cern.ch': 12}
    """
    fingerprints: set[Digest] = set()
    lowest: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        rule = line.partition("#")[0].strip()
        if not rule:
            continue
        if match := _REVISION.fullmatch(rule):
            name, revision = match[1], int(match[2])
            lowest[name] = max(revision, lowest.get(name, 0))
        elif digest := parse_fingerprint(rule.split()[0].upper()):
            fingerprints.add(digest)
        else:
            raise LetterFormatError(
                f"{rule[:80]!r} is neither a fingerprint nor <NAME REVISION",
                where=where,
                line=number,
            )
    return Blacklist(frozenset(fingerprints), lowest)
