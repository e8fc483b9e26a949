"""How many background requests at once pay: more are tried while more are done by them, fewer when nothing is gained.

Pure; `lanes.py` tells it what was done and holds to what it says.
"""

from __future__ import annotations

from dataclasses import dataclass

START = 4
REQUEST_WORTH_BYTES = (
    8192  # what a request costs besides its bytes: a rate of requests is a rate of bytes, too
)

_EPOCH_S = 0.1
_GROWTH = 1.5
_PAYS = 1.08
_FORGET = 0.97


@dataclass(frozen=True, slots=True)
class Window:
    """The number of lanes in use, and what the last number brought.

    Units: `best_rate` in bytes per second, requests counted at their worth, fading so that a link that changes is
    noticed.
    """

    most: int
    lanes: float = START
    best_rate: float = 0.0
    idle_epochs: int = 0
    started_s: float = 0.0
    worth_bytes: int = 0
    was_full: bool = False

    @property
    def limit(self) -> int:
        """How many may be under way now."""
        return max(1, min(self.most, int(self.lanes)))

    def finished(self, size_bytes: int, *, under_way: int, now_s: float) -> Window:
        """After one more background request has brought `size_bytes`, while `under_way` were."""
        worth = self.worth_bytes + size_bytes + REQUEST_WORTH_BYTES
        was_full = self.was_full or under_way >= self.limit
        elapsed_s = now_s - self.started_s
        if elapsed_s > 20 * _EPOCH_S:
            return self._next(self.lanes, self.best_rate, self.idle_epochs, now_s)
        if elapsed_s < _EPOCH_S or worth < self.limit * REQUEST_WORTH_BYTES:
            return Window(
                self.most,
                self.lanes,
                self.best_rate,
                self.idle_epochs,
                self.started_s,
                worth,
                was_full,
            )
        if not was_full:
            return self._next(self.lanes, self.best_rate, self.idle_epochs, now_s)
        rate = worth / elapsed_s
        if rate > self.best_rate * _PAYS:
            return self._next(min(self.lanes * _GROWTH, self.most), rate, 0, now_s)
        faded = max(rate, self.best_rate * _FORGET)
        if self.idle_epochs < 2:
            return self._next(self.lanes, faded, self.idle_epochs + 1, now_s)
        return self._next(max(self.lanes / _GROWTH, 1.0), faded, 0, now_s)

    def _next(self, lanes: float, best_rate: float, idle_epochs: int, now_s: float) -> Window:
        return Window(self.most, lanes, best_rate, idle_epochs, now_s)
