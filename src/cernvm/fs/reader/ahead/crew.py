"""A few threads that work while there is something to do, and end when there has been nothing for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOOK_EVERY_S = 1.0
IDLE_S = 10.0
CLOSING_S = 0.5


class Crew:
    """Threads that call `work` until it has nothing to do (it answers False), then wait to be woken.

    While they wait, `tidy` is called every `LOOK_EVERY_S`; a thread ends once `IDLE_S` passed in which neither did
    anything. Concurrency: `wake` from any thread; it costs next to nothing while all are at work.
    """

    def __init__(self, work: Callable[[], bool], tidy: Callable[[], bool], *, limit: int) -> None:
        self._work = work
        self._tidy = tidy
        self._limit = limit
        self._started = 0
        self._idle = 0
        self._calls = (
            0  # each wake is one more: a thread that finds nothing to do waits for the next
        )
        self._changed = threading.Condition(threading.Lock())
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many threads there are."""
        return self._started

    def wake(self) -> None:
        """Have one more thread look for work."""
        with self._changed:
            self._calls += 1
            if self._is_closed:
                return
            if self._idle:
                self._changed.notify()
            elif self._started < self._limit:
                self._started += 1
                threading.Thread(target=self._run, name="ahead", daemon=True).start()

    def close(self) -> None:
        """Begin no more work, and wait a moment for what is under way; if it takes longer, it ends by itself."""
        ends_at_s = time.monotonic() + CLOSING_S
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            while self._started and (left_s := ends_at_s - time.monotonic()) > 0:
                self._changed.wait(left_s)

    def _run(self) -> None:
        try:
            self._work_until_idle()
        finally:  # also after a defect, so that the next call starts another thread
            with self._changed:
                self._started -= 1
                if self._is_closed:
                    self._changed.notify_all()

    def _work_until_idle(self) -> None:
        busy_at_s = time.monotonic()
        while not self._is_closed:
            calls = self._calls
            if self._work():
                busy_at_s = time.monotonic()
            elif not self._wait(calls) and not self._is_closed:
                if self._tidy():
                    busy_at_s = time.monotonic()
                elif time.monotonic() - busy_at_s > IDLE_S:
                    break

    def _wait(self, calls: int) -> bool:
        """Wait for a call after `calls`; False when none came."""
        with self._changed:
            if self._calls != calls or self._is_closed:
                return True
            self._idle += 1
            try:
                return self._changed.wait(LOOK_EVERY_S)
            finally:
                self._idle -= 1
