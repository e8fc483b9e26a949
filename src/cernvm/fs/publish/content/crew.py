"""Who does the jobs: threads of this process at first, worker processes once there is enough to do.

All take from one queue. A store that lives in this process only, or a machine that starts no process, leaves it to
the threads. Whatever happens to a worker process, every job's future gets rows or an error.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from itertools import count
from queue import Empty, SimpleQueue

from cernvm.core.errors import CvmError
from cernvm.core.log import fields
from cernvm.fs.publish.content.jobs import Job, Row
from cernvm.fs.publish.content.link import Assignment, Link
from cernvm.fs.publish.content.storing import do_job
from cernvm.fs.store.port import ObjectStore

log = logging.getLogger(__name__)

# Below, threads have finished before processes have paid for their start.
_PROCESSES_FROM_BYTES = 64 << 20
_PROCESSES_FROM_SOURCES = 600
_JOIN_S = 60.0


class Crew:
    """Does jobs, in the order in which they come, as many at a time as it has workers.

    Concurrency: one thread calls it, which lives as long as the crew.
    """

    def __init__(self, store: ObjectStore, workers: int) -> None:
        self._store = store
        self._workers = workers
        self._queue: SimpleQueue[Assignment | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._links: list[Link] = []
        self._ready = count(1)  # links that are
        self._is_relieved = threading.Event()  # the threads are, by the processes
        self._may_start = workers > 1 and bool(store.location)
        self._left_bytes = _PROCESSES_FROM_BYTES
        self._left_sources = _PROCESSES_FROM_SOURCES

    def submit(self, job: Job, size_bytes: int) -> Future[list[Row]]:
        """Queue a job whose sources have `size_bytes` in all."""
        if not self._threads:
            self._start_threads()
        self._left_bytes -= size_bytes
        self._left_sources -= len(job.sources)
        if self._may_start and (self._left_bytes < 0 or self._left_sources < 0):
            self._may_start = False
            self._start_processes()
        assignment = Assignment(job)
        self._queue.put(assignment)
        return assignment.future

    def close(self) -> None:
        """End all workers once the queue is done."""
        for _ in range(len(self._threads) + len(self._links)):
            self._queue.put(None)
        for thread in self._threads:
            thread.join(_JOIN_S)
        for link in self._links:
            link.end()

    def abort(self) -> None:
        """End all workers; what is not done will not be."""
        while True:
            try:
                assignment = self._queue.get_nowait()
            except Empty:
                break
            if assignment is not None:
                assignment.future.cancel()
        for link in self._links:
            link.kill()
        self.close()

    def _start_threads(self) -> None:
        for _ in range(max(self._workers, self._store.lanes if self._store.lanes > 2 else 1)):
            thread = threading.Thread(target=self._work, name="publish", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _work(self) -> None:
        while not self._is_relieved.is_set():
            assignment = self._queue.get()
            if assignment is None:
                return
            try:
                assignment.future.set_result(do_job(assignment.job, self._store))
            except CvmError as exc:
                assignment.future.set_exception(exc)
            finally:
                if not assignment.future.done():  # nobody may wait for a thread that fails
                    assignment.future.set_exception(RuntimeError("a publisher's thread failed"))

    def _start_processes(self) -> None:
        each = -(-self._store.lanes // self._workers)
        try:
            for _ in range(self._workers):
                self._links.append(Link(self._store.location, each, self._queue, self._count_ready))
        except OSError as exc:
            log.warning("worker.not_started", extra=fields(error=str(exc)))

    def _count_ready(self) -> None:
        """By the links' threads."""
        if next(self._ready) == self._workers:
            self._is_relieved.set()
