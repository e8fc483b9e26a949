"""A source that holds its answer: the twin of the real ones."""

from __future__ import annotations

from dataclasses import dataclass

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeadlineError
from cernvm.guest.sources.port import Found


@dataclass(slots=True)
class MemorySource:
    """Gives `found`, or fails with `error`, after `delay_s` of the deadline's clock."""

    found: Found | None = None
    error: CvmError | None = None
    delay_s: float = 0.0
    name: str = "memory"

    def probe(self, deadline: Deadline) -> Found | None:
        if self.delay_s > deadline.remaining_s:
            deadline.clock.sleep(deadline.remaining_s)
            raise DeadlineError(f"asking {self.name}", after_s=deadline.budget_s)
        deadline.clock.sleep(self.delay_s)
        if self.error:
            raise self.error
        return self.found
