"""Who is left alone, and for how long: a peer that fails rests, one that lies is banned, each time longer. Pure."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum

from cernvm.core.clock import Clock, SystemClock
from cernvm.fs.peers.peer import Peer

REST_FIRST_S, REST_MOST_S = 0.25, 300.0
BAN_FIRST_S, BAN_MOST_S = 60.0, 86_400.0
BUSY_S = 0.5
_MAX_KNOWN = 1024


class Blame(Enum):
    """Why an exchange with a peer did not go well."""

    BUSY = "busy"  # it said so: no fault
    FAILED = "failed"  # silent, slow, broken or gone
    LIED = "lied"  # what it sent is not what was asked for, or no answer at all


@dataclass(slots=True)
class _Standing:
    failures: int = 0
    lies: int = 0
    left_alone_until_s: float = 0.0


class Standings:
    """How peers have behaved of late. Concurrency: safe from any thread."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._known: dict[Peer, _Standing] = {}
        self._lock = threading.Lock()

    def may_be_asked(self, peer: Peer) -> bool:
        """Whether it is not left alone now."""
        standing = self._known.get(peer)
        return standing is None or self._clock.monotonic() >= standing.left_alone_until_s

    def went_well(self, peer: Peer) -> None:
        """It answered as it should; its lies are not forgotten."""
        standing = self._known.get(peer)
        if standing is not None and standing.failures:
            standing.failures = 0

    def blame(self, peer: Peer, blame: Blame) -> float:
        """Leave a peer alone; for how long, in seconds."""
        now_s = self._clock.monotonic()
        with self._lock:
            if peer not in self._known and len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            standing = self._known.setdefault(peer, _Standing())
            if blame is Blame.FAILED and now_s < standing.left_alone_until_s:
                return 0.0  # several were waiting for it at once: that is one failure
            rest_s = BUSY_S
            if blame is Blame.FAILED:
                rest_s = min(REST_FIRST_S * 2**standing.failures, REST_MOST_S)
                standing.failures = min(standing.failures + 1, 16)
            elif blame is Blame.LIED:
                rest_s = min(BAN_FIRST_S * 4**standing.lies, BAN_MOST_S)
                standing.lies = min(standing.lies + 1, 16)
            standing.left_alone_until_s = max(standing.left_alone_until_s, now_s + rest_s)
            return rest_s

    def left_alone(self) -> int:
        """How many are left alone now."""
        with self._lock:
            return sum(not self.may_be_asked(peer) for peer in self._known)
