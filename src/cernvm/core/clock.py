"""Time as a port: what the system asks of a clock, the real one and one that tests turn by hand."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cernvm.core.errors import DeadlineError


class Clock(Protocol):
    """A source of time. Concurrency: safe from any thread."""

    def now(self) -> datetime:
        """The time of day, aware, UTC."""

    def monotonic(self) -> float:
        """Seconds on a scale that never goes back; only differences mean something."""

    def sleep(self, seconds: float) -> None:
        """Wait; only the synchronous rooms use it."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(slots=True)
class FakeClock:
    """A clock that stands still until `advance` or `sleep` moves it."""

    current: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    elapsed_s: float = 0.0

    def now(self) -> datetime:
        return self.current

    def monotonic(self) -> float:
        return self.elapsed_s

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self.elapsed_s += seconds
        self.current += timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment by which a caller must have an answer or an error."""

    clock: Clock
    at: float
    budget_s: float

    @classmethod
    def after(cls, seconds: float, clock: Clock | None = None) -> Deadline:
        """A deadline `seconds` from now."""
        used = clock or SystemClock()
        return cls(used, used.monotonic() + seconds, seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self.at - self.clock.monotonic())

    @property
    def has_passed(self) -> bool:
        """Whether no time is left."""
        return self.remaining_s <= 0.0

    def check(self, action: str) -> None:
        """Raise `DeadlineError`, naming `action`, once the time is used up."""
        if self.has_passed:
            raise DeadlineError(action, after_s=self.budget_s)
