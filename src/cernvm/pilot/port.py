"""The queue of jobs, as the job agent and the command line see it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cernvm.pilot.job import Job, JobState


@dataclass(frozen=True, slots=True)
class SeenAgent:
    """A pilot that has spoken: its address, its host's name, when it was last heard, whether it is connected."""

    address: str
    host: str
    seen_at: datetime
    is_present: bool


class Queue(Protocol):
    """Jobs in the order of submission, shared by processes.

    Errors: `UnavailableError` when the place that keeps them fails.
    Concurrency: safe from any thread and process; each verb is one transaction and may block for milliseconds.
    """

    def submit(self, jobs: Sequence[Job]) -> None:
        """Add jobs at the end, all or none. Errors: `ExistsError`."""

    def claim(self, agent: str, *, lease_s: float) -> Job | None:
        """Give the first waiting job to a pilot, to it alone; None when none waits."""

    def change(self, job_id: str, rule: Callable[[Job], Job]) -> Job:
        """Apply a rule of `lease` to a job with nobody in between; what the rule raises leaves the job as it was.

        Errors: `NotFoundError`, and the rule's.
        """

    def jobs(self, *, states: Collection[JobState] = (), ids: Collection[str] = ()) -> list[Job]:
        """The jobs in any of `states` and `ids`, or all, by submission."""

    def see_agent(self, agent: SeenAgent) -> None:
        """Note a pilot; an empty `host` keeps the known one."""

    def agents(self) -> list[SeenAgent]:
        """Every pilot ever seen, by address."""
