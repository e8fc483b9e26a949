"""What the way to the servers is like, measured from what is fetched anyway: its round trip and its throughput.

Pure: times come in, values come out; `lanes.py` feeds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

REMEMBER_S = 30.0
_EPOCH_S = 0.1
_STILL_GROWS = 1.25
_LEVEL_EPOCHS = 3


@dataclass(frozen=True, slots=True)
class Link:
    """An estimate of the way to the servers.

    Units: `rtt_s` from a request to its answer's first byte, the shortest of late; `bytes_per_s` the most of late, over
    all that was fetched at once. Both are 0 while unknown, as a throughput is until more at once brings no more.
    `background_lanes` is how many background requests at once pay now.
    """

    rtt_s: float = 0.0
    bytes_per_s: float = 0.0
    background_lanes: int = 1


@dataclass(frozen=True, slots=True)
class Recent:
    """The best value of late: that of this half of the time to remember, or of the half before it.

    >>> Recent(shortest=True).taken(0.5, 0.0).taken(0.7, 1.0).best
    0.5
    """

    shortest: bool
    this: float | None = None
    before: float | None = None
    since_s: float = 0.0

    def taken(self, value: float, now_s: float) -> Recent:
        """With one more value."""
        if now_s - self.since_s >= REMEMBER_S:
            is_old = now_s - self.since_s >= 2 * REMEMBER_S
            return Recent(self.shortest, value, None if is_old else self.this, now_s)
        better = min if self.shortest else max
        return replace(self, this=value if self.this is None else better(self.this, value))

    @property
    def best(self) -> float:
        """0 while nothing is known."""
        known = [value for value in (self.this, self.before) if value is not None]
        if not known:
            return 0.0
        return min(known) if self.shortest else max(known)


@dataclass(slots=True)
class Meter:
    """Keeps the estimate. Concurrency: under its owner's lock."""

    rtt: Recent = field(default_factory=lambda: Recent(shortest=True))
    rate: Recent = field(default_factory=lambda: Recent(shortest=False))
    _epoch_started_s: float = 0.0
    _epoch_bytes: int = 0
    _is_pressed: bool = True
    _level_epochs: int = 0

    @property
    def bytes_per_s(self) -> float:
        """What the link carries; 0 while it may well carry more than was asked of it yet."""
        return self.rate.best if self._level_epochs >= _LEVEL_EPOCHS else 0.0

    def waited(self, seconds: float, now_s: float) -> None:
        """A request's first byte came after so long, on a connection that stood."""
        self.rtt = self.rtt.taken(seconds, now_s)

    def received(self, size_bytes: int, now_s: float, *, is_pressed: bool) -> None:
        """So much has come; a pause in fetching begins anew and says nothing of the link.

        Shape: `is_pressed` while more is asked for than one reader waits for, so that the link may be full.
        """
        elapsed_s = now_s - self._epoch_started_s
        if elapsed_s > 10 * _EPOCH_S:
            self._begin(now_s)
            return
        self._epoch_bytes += size_bytes
        self._is_pressed &= is_pressed
        if elapsed_s >= _EPOCH_S:
            self._judge(self._epoch_bytes / elapsed_s, now_s)
            self._begin(now_s)

    def _judge(self, rate: float, now_s: float) -> None:
        if rate > _STILL_GROWS * self.rate.best:
            self._level_epochs = 0
        elif self._is_pressed:
            self._level_epochs += 1
        self.rate = self.rate.taken(rate, now_s)

    def _begin(self, now_s: float) -> None:
        self._epoch_started_s, self._epoch_bytes, self._is_pressed = now_s, 0, True
