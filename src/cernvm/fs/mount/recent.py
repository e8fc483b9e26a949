"""What could not be had a moment ago cannot be had now.

Readers of one page, or of one name, queue up in the kernel: each asks only when the one before has its error. Were each
to wait for the whole deadline, the last would wait for the sum of them.
"""

from __future__ import annotations

from collections.abc import Hashable

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import UnavailableError

FRESH_S = 2.0

_REMEMBERED = 1024


class RecentFailures:
    """Failures of the last two seconds, by what was asked for. Concurrency: safe from any thread."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._failures: dict[Hashable, tuple[float, UnavailableError]] = {}

    def check(self, wanted: Hashable) -> None:
        """Raise the error with which `wanted` failed just now, if it did."""
        failed_at, error = self._failures.get(wanted, (0.0, None))
        if error is not None and self._clock.monotonic() - failed_at < FRESH_S:
            raise error.with_traceback(None)

    def note(self, wanted: Hashable, error: UnavailableError) -> None:
        """Remember that `wanted` could not be had."""
        if len(self._failures) >= _REMEMBERED:
            self._failures.clear()
        self._failures[wanted] = (self._clock.monotonic(), error)
