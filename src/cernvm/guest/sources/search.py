"""Ask the sources in turn until one has a context; keep what each said and how long it took."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from cernvm.core.clock import Clock, Deadline
from cernvm.core.errors import CvmError
from cernvm.core.log import fields
from cernvm.guest.sources.port import Found, Source

SEARCH_BUDGET_S = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a source said: `found`, `absent`, or `failed` with its reason."""

    source: str
    outcome: str
    took_ms: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Search:
    """The first context found, if any, and every attempt on the way."""

    found: Found | None
    attempts: tuple[Attempt, ...]


def find_context(
    sources: Sequence[Source], clock: Clock, *, budget_s: float = SEARCH_BUDGET_S
) -> Search:
    """Probe the sources in order, within `budget_s` in all; a failing source does not hide the next."""
    deadline = Deadline.after(budget_s, clock)
    attempts: list[Attempt] = []
    for source in sources:
        begin = clock.monotonic()
        found, outcome, reason = None, "absent", ""
        try:
            found = source.probe(deadline)
            outcome = "found" if found is not None else "absent"
        except CvmError as error:
            outcome, reason = "failed", str(error)
        took_ms = round((clock.monotonic() - begin) * 1000)
        attempts.append(Attempt(source.name, outcome, took_ms, reason))
        log.info("source.asked", extra=fields(source=source.name, outcome=outcome, took_ms=took_ms))
        if found is not None:
            return Search(found, tuple(attempts))
    return Search(None, tuple(attempts))
