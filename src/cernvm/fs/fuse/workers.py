"""Threads for the requests that have to wait, and the watch that lets none of them wait longer than its deadline."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from cernvm.core.clock import Deadline
from cernvm.core.log import fields

MOST_THREADS = 512

_GRACE_S = 0.25  # work that keeps its deadline tells a better error itself
_WATCH_S = 0.1
_IDLE_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """One request's answer in the making; neither callable raises, `give_up` may come while `do` still runs."""

    do: Callable[[Deadline], None]
    give_up: Callable[[], None]
    deadline: Deadline


class Workers:
    """Threads that are started when they are needed and do one piece of work each, the oldest first.

    `limit` threads suffice for work that gets on. Where all of them are stuck, as with a server that does not answer,
    more are started, so that work which needs nothing of it is not kept waiting.
    They are daemons: a process that ends does not wait for a server that does not answer.
    Concurrency: `submit` is called from one thread.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._threads = 0
        self._idle = 0
        self._begun = 0
        self._is_closed = False
        self._is_watched = False
        self._open: dict[Work, None] = {}  # in the order of their deadlines
        self._queue: SimpleQueue[Work | None] = SimpleQueue()

    def submit(self, work: Work) -> None:
        """Have `work` done by the next free thread, and given up at its deadline if it is not done by then."""
        with self._lock:
            self._open[work] = None
            self._queue.put(work)
            if self._idle < self._queue.qsize() and self._threads < self._limit:
                self._start_thread()
            if not self._is_watched:
                self._is_watched = self._start("fuse-watch", self._watch)
            self._changed.notify()

    @property
    def waiting(self) -> tuple[int, float]:
        """How many pieces of work are not done yet, and for how many seconds the oldest has waited."""
        with self._lock:
            oldest = next(iter(self._open), None)
            if oldest is None:
                return 0, 0.0
            return len(self._open), oldest.deadline.budget_s - oldest.deadline.remaining_s

    def close(self) -> None:
        """Let every thread end after the work it has in hand; work that nobody has begun is dropped."""
        with self._lock:
            self._is_closed = True
            self._open.clear()
            self._changed.notify()
            for _ in range(self._threads):
                self._queue.put(None)

    def _start_thread(self) -> None:
        if self._start(f"fuse-{self._threads + 1}", self._run):
            self._threads += 1

    def _start(self, name: str, target: Callable[[], None]) -> bool:
        try:
            threading.Thread(target=target, name=name, daemon=True).start()
        except RuntimeError:  # no more threads for this process: what there is has to do
            log.warning("worker.refused", extra=fields(name=name, threads=self._threads))
            return False
        return True

    def _run(self) -> None:
        while (work := self._next()) is not None:
            work.do(work.deadline)
            with self._lock:
                self._open.pop(work, None)
        with self._lock:
            self._threads -= 1

    def _next(self) -> Work | None:
        with self._lock:
            self._idle += 1
        try:
            work = self._queue.get(timeout=_IDLE_S)
        except Empty:
            work = None
        with self._lock:
            self._idle -= 1
            self._begun += 1
            return None if self._is_closed else work

    def _watch(self) -> None:
        """Give up what is overdue; more threads when nothing was begun for a while although something waits."""
        begun_before = -1
        while True:
            with self._lock:
                while not self._open and not self._is_closed:
                    self._changed.wait()
                if self._is_closed:
                    return
                overdue = [work for work in self._open if _is_overdue(work.deadline)]
                for work in overdue:
                    del self._open[work]
                waiting = self._queue.qsize()
                if waiting and self._begun == begun_before:
                    for _ in range(min(waiting, MOST_THREADS - self._threads)):
                        self._start_thread()
                begun_before = self._begun
            for work in overdue:
                work.give_up()
            threading.Event().wait(_WATCH_S)


def _is_overdue(deadline: Deadline) -> bool:
    return deadline.clock.monotonic() > deadline.at + _GRACE_S
