"""A bounded number of threads for the requests that have to wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue


class Workers:
    """Threads that are started when they are needed and do one piece of work each, the oldest first.

    They are daemons: a process that ends does not wait for a server that does not answer.
    Concurrency: `submit` is called from one thread.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, work: Callable[[], None]) -> None:
        """Have `work`, which must not raise, done by the next free thread."""
        if not self._idle.acquire(blocking=False) and self._started < self._limit:
            self._started += 1
            threading.Thread(target=self._run, name=f"fuse-{self._started}", daemon=True).start()
        self._work.put(work)

    def close(self) -> None:
        """Let every thread end after the work it has in hand; work that nobody has begun is dropped."""
        with suppress(Empty):
            while True:
                self._work.get_nowait()
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            self._idle.release()
