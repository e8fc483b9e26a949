"""Who may fetch at once: foreground requests have lanes of their own, background requests only what pays beside them.

A foreground request never waits for a background one. While one has waited for longer than the link explains, or takes
its time over a large body, background requests neither begin nor take what has come for them, but for a little, so that
they end at all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cernvm.core.clock import Deadline
from cernvm.net.link import Link, Meter
from cernvm.net.terms import Terms
from cernvm.net.window import Window

MAX_CONNECTIONS = 16
MAX_BACKGROUND = 32

FIRST_DEPTH = 16
MAX_DEPTH = 64

_FULL = 1.25  # round trips' worth: growing until the link is full, then a quarter of a round trip of queue
_SLACK_S = 0.002
_HEADS_BYTES = 500
_PATIENCE_S = 0.02  # beyond two round trips
_MAKE_WAY_S = 0.5  # for one part of a body


class Lanes:
    """Concurrency: safe from any thread."""

    def __init__(self, foreground: int = MAX_CONNECTIONS, background: int = MAX_BACKGROUND) -> None:
        self._foreground = threading.BoundedSemaphore(foreground)
        self._window = Window(most=background)
        self._background = 0
        self._waiting: dict[object, float] = {}  # foreground requests under way: since when
        self._meter = Meter()
        self._typical_bytes = 0.0
        self._changed = threading.Condition()

    @contextmanager
    def lane(self, terms: Terms, deadline: Deadline) -> Iterator[bool]:
        """A lane while the block runs; False when none came free in time."""
        if not terms.in_background:
            with self._foreground_lane(deadline) as is_mine:
                yield is_mine
            return
        is_mine = self._enter_background(deadline)
        try:
            yield is_mine
        finally:
            if is_mine:
                with self._changed:
                    self._background -= 1
                    self._changed.notify_all()

    def make_way(self, deadline: Deadline) -> None:
        """Let foreground requests go first; called by a background one before it takes each part of a body."""
        if not self._waiting:
            return
        until = time.monotonic() + min(_MAKE_WAY_S, deadline.remaining_s / 4)
        with self._changed:
            while (left_s := until - time.monotonic()) > 0 and self._is_late(time.monotonic()):
                self._changed.wait(left_s)

    def waited(self, seconds: float) -> None:
        """A first byte came after so long on a connection that stood."""
        with self._changed:
            self._meter.waited(seconds, time.monotonic())

    def received(self, size_bytes: int) -> None:
        """A part of a body has come."""
        with self._changed:
            is_pressed = self._background > 0
            self._meter.received(size_bytes, time.monotonic(), is_pressed=is_pressed)

    def finished(self, terms: Terms, size_bytes: int) -> None:
        """A request has brought its body."""
        if not terms.in_background:
            return
        with self._changed:
            before = self._typical_bytes or float(size_bytes)
            self._typical_bytes = before + (size_bytes - before) / 16
            self._window = self._window.finished(
                size_bytes, under_way=self._background, now_s=time.monotonic()
            )

    def depth(self) -> int:
        """How many small requests one background lane may have under way: as many as fill the link, with little more.

        What waits in a queue somewhere on the way is what a foreground request has to wait behind.
        """
        rtt_s, bytes_per_s = self._meter.rtt.best, self._meter.rate.best
        if not (rtt_s and bytes_per_s):
            return FIRST_DEPTH
        least = 2 if self._meter.bytes_per_s else FIRST_DEPTH
        under_way = bytes_per_s * (rtt_s * _FULL + _SLACK_S) / max(1, self._background)
        depth = int(under_way / (self._typical_bytes + _HEADS_BYTES)) + 1
        return max(least, min(MAX_DEPTH, depth))

    @property
    def link(self) -> Link:
        """What has been measured."""
        return Link(self._meter.rtt.best, self._meter.bytes_per_s, self._window.limit)

    @contextmanager
    def _foreground_lane(self, deadline: Deadline) -> Iterator[bool]:
        if not self._foreground.acquire(timeout=deadline.remaining_s):
            yield False
            return
        me = object()
        self._waiting[me] = time.monotonic()
        try:
            yield True
        finally:
            del self._waiting[me]
            self._foreground.release()
            if self._background:
                with self._changed:
                    self._changed.notify_all()

    def _enter_background(self, deadline: Deadline) -> bool:
        with self._changed:
            while self._background >= self._window.limit or self._is_late(time.monotonic()):
                if deadline.has_passed:
                    return False
                self._changed.wait(min(deadline.remaining_s, _MAKE_WAY_S))
            self._background += 1
            return True

    def _is_late(self, now_s: float) -> bool:
        """Whether a foreground request takes longer than the link explains."""
        patience_s = 2 * self._meter.rtt.best + _PATIENCE_S
        return any(now_s - since > patience_s for since in list(self._waiting.values()))
