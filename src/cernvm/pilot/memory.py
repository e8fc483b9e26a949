"""The queue in memory: the twin of the database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import ExistsError, NotFoundError
from cernvm.pilot.job import Job, JobState
from cernvm.pilot.lease import give
from cernvm.pilot.port import SeenAgent


class MemoryQueue:
    """A `Queue` that lives as long as it is referenced."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._jobs: dict[str, Job] = {}
        self._agents: dict[str, SeenAgent] = {}
        self._lock = threading.Lock()

    def submit(self, jobs: Sequence[Job]) -> None:
        with self._lock:
            known = {**self._jobs}
            for job in jobs:
                if job.id in known:
                    raise ExistsError("job", job.id)
                known[job.id] = job
            self._jobs = known

    def claim(self, agent: str, *, lease_s: float) -> Job | None:
        with self._lock:
            for job in self._jobs.values():
                if job.state is JobState.WAITING:
                    given = give(job, agent, now=self._clock.now(), lease_s=lease_s)
                    self._jobs[job.id] = given
                    return given
            return None

    def change(self, job_id: str, rule: Callable[[Job], Job]) -> Job:
        with self._lock:
            if job_id not in self._jobs:
                raise NotFoundError("job", job_id)
            changed = self._jobs[job_id] = rule(self._jobs[job_id])
            return changed

    def jobs(self, *, states: Collection[JobState] = (), ids: Collection[str] = ()) -> list[Job]:
        with self._lock:
            return [
                job
                for job in self._jobs.values()
                if (not states or job.state in states) and (not ids or job.id in ids)
            ]

    def see_agent(self, agent: SeenAgent) -> None:
        with self._lock:
            known = self._agents.get(agent.address)
            host = agent.host or (known.host if known else "")
            self._agents[agent.address] = replace(agent, host=host)

    def agents(self) -> list[SeenAgent]:
        with self._lock:
            return [self._agents[address] for address in sorted(self._agents)]
