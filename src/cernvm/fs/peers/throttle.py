"""How fast peers are served. Pure but for the clock."""

from __future__ import annotations

import threading

from cernvm.core.clock import Clock, SystemClock

BURST_S = 0.25


class Throttle:
    """Lets so many bytes a second pass, 0: all. Concurrency: safe from any thread."""

    def __init__(self, bytes_per_s: int, clock: Clock | None = None) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock or SystemClock()
        self._free_at_s = 0.0
        self._lock = threading.Lock()

    @property
    def is_behind(self) -> bool:
        """Whether more is under way than it lets pass: who asks now had better ask elsewhere."""
        return self._free_at_s > self._clock.monotonic()

    def pass_on(self, size_bytes: int) -> None:
        """Wait until so many bytes may be sent."""
        if not self._bytes_per_s:
            return
        with self._lock:
            now_s = self._clock.monotonic()
            self._free_at_s = max(self._free_at_s, now_s - BURST_S) + size_bytes / self._bytes_per_s
            wait_s = self._free_at_s - now_s
        if wait_s > 0:
            self._clock.sleep(wait_s)
