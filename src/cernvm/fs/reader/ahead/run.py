"""One run of reads: where it goes, and how much may be fetched ahead of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cernvm.fs.reader.ahead.course import Step, Wanted
from cernvm.fs.reader.ahead.tally import Tally, Way
from cernvm.fs.reader.ahead.window import Window

MAX_BATCH = 32
MAX_STRAY_BATCH = 12  # of what is only likely: the next miss tells better what to fetch, and must find a free thread
MAX_BATCH_BYTES = 512 * 1024
RASH = 2  # an object that is so much larger than the window is not fetched on so little evidence
MAX_SKIPPED = 512  # a course through what was tried already ends; the next miss begins another


class Run:
    """Steps to take, within a window; `is_ordered` when they will be wanted in this order.

    Concurrency: `next_steps` by one thread at a time, all else by any.
    """

    def __init__(
        self,
        steps: Iterator[Step],
        window: Window,
        tally: Tally,
        wake: Callable[[], None],
        *,
        is_ordered: bool,
    ) -> None:
        self.is_ordered = is_ordered
        self.window = window
        self._steps = steps
        self._tally = tally
        self._wake = wake
        self._lock = threading.Lock()
        self._sources: dict[Way, Source] = {}
        self.is_over = False

    def source(self, way: Way) -> Source:
        """Who hears what becomes of the objects that this run fetched in one way."""
        return self._sources.setdefault(way, Source(self, way))

    def next_steps(self, is_needless: Callable[[Step], bool]) -> list[Step]:
        """What to fetch next, at once: a pack, a large object or some small ones; empty when there is no room or end.

        `is_needless` says of a step that it is at hand, on its way, or was tried lately.
        """
        batch: list[Step] = []
        size_bytes = skipped = 0
        limit = MAX_BATCH if self.is_ordered else MAX_STRAY_BATCH
        while self.window.has_room and len(batch) < limit and size_bytes < MAX_BATCH_BYTES:
            step = next(self._steps, None)
            if step is None or skipped > MAX_SKIPPED:
                self.is_over = True
                break
            is_rash = (
                isinstance(step, Wanted) and step.transfer_bytes > RASH * self.window.size_bytes
            )
            if is_rash or is_needless(step):
                skipped += 1
                continue
            batch.append(step)
            size_bytes += step.transfer_bytes
            with self._lock:
                self.window.sent(step.transfer_bytes)
            if not isinstance(step, Wanted):
                break
        return batch

    def used(self, way: Way, size_bytes: int) -> None:
        """A reader took something that this run fetched."""
        self._tally.used(way, size_bytes)
        with self._lock:
            self.window.used(size_bytes)
            is_hungry = self.window.is_hungry and not self.is_over
        if is_hungry:
            self._wake()

    def wasted(self, way: Way, size_bytes: int) -> None:
        """Something was given up that this run fetched."""
        self._tally.wasted(way, size_bytes)
        with self._lock:
            self.window.wasted(size_bytes)

    def returned(self, size_bytes: int) -> None:
        """Something did not come, or came smaller (larger, if negative) than was thought."""
        with self._lock:
            self.window.returned(size_bytes)


@dataclass(frozen=True, slots=True)
class Source:
    """An `Origin`: a run, and the way in which it foretold."""

    run: Run
    way: Way

    def used(self, size_bytes: int) -> None:
        self.run.used(self.way, size_bytes)

    def wasted(self, size_bytes: int) -> None:
        self.run.wasted(self.way, size_bytes)
