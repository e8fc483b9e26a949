"""Small content on its way to the disk: readable at once, written by one thread, many together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cernvm.core.errors import CvmError
from cernvm.core.log import fields
from cernvm.fs.cache.content import MemoryContent
from cernvm.fs.cache.port import Rank

MAX_WAITING_BYTES = 6 << 20
LINGER_S = (
    0.02  # what comes together is written together, and not in the middle of a reader's burst
)
REST_S = 1.0  # after a write that failed: the next ones would fail too, and each costs an eviction
_ENOUGH_BYTES = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting(MemoryContent):
    """Content that nobody has written yet."""

    rank: Rank = Rank.REGULAR


class WriteBehind:
    """Takes content at once and has `write` write it soon.

    Concurrency: safe from any thread; a caller who finds too much waiting writes its own, and so is slowed down.
    """

    def __init__(
        self, write: Callable[[str, Waiting], None], unwrite: Callable[[str], None]
    ) -> None:
        self._write = write
        self._unwrite = unwrite
        self._waiting: dict[str, Waiting] = {}
        self._writing: set[str] = (
            set()
        )  # by whomever: two would take the other's work for forgotten
        self._bytes = 0
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._some = threading.Event()
        self._rest_ends = 0.0
        self._closing = False
        self._thread: threading.Thread | None = None

    def put(self, name: str, content: Waiting) -> None:
        """Have content written; it can be found by `find` until then."""
        if time.monotonic() < self._rest_ends:
            return
        with self._lock:
            self._drop(name)
            self._waiting[name] = content
            self._bytes += content.size_bytes
            is_mine = self._bytes > MAX_WAITING_BYTES or self._closing
            if self._thread is None and not is_mine:
                self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)
                self._thread.start()
            is_enough = self._bytes > _ENOUGH_BYTES
        if is_mine:
            self._write_one(name, content)
        if not self._some.is_set():
            self._some.set()
        if is_enough:
            self._enough.set()

    def find(self, name: str) -> Waiting | None:
        """Content that is not written yet."""
        return self._waiting.get(name)

    def forget(self, name: str) -> None:
        """Drop content that is not written yet, or have it removed as soon as it is."""
        with self._lock:
            self._drop(name)

    @property
    def size_bytes(self) -> int:
        """How much waits."""
        return self._bytes

    def close(self) -> None:
        """Write all that waits."""
        with self._lock:
            self._closing = True
            thread = self._thread
        if thread is not None:
            self._some.set()
            self._enough.set()
            thread.join()

    def _run(self) -> None:
        while True:
            self._some.wait()
            self._enough.wait(LINGER_S)
            self._some.clear()
            self._enough.clear()
            with self._lock:
                batch = list(self._waiting.items())
            for name, content in batch:
                self._write_one(name, content)
            if self._closing and not batch:
                return
            if self._closing:
                self._some.set()

    def _write_one(self, name: str, content: Waiting) -> None:
        with self._lock:
            if self._waiting.get(name) is not content or name in self._writing:
                return
            self._writing.add(name)
        try:
            if time.monotonic() >= self._rest_ends:
                self._write(name, content)
        except (OSError, CvmError) as error:
            self._rest_ends = time.monotonic() + REST_S
            log.warning("cache.not_written", extra=fields(name=name, error=str(error)))
        with self._lock:
            self._writing.remove(name)
            was_forgotten = self._waiting.get(name) is not content
            if not was_forgotten:
                self._drop(name)
        if was_forgotten:
            self._unwrite(name)

    def _drop(self, name: str) -> None:
        content = self._waiting.pop(name, None)
        self._bytes -= content.size_bytes if content else 0
