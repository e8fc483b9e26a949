"""What peers gave and got. Units: objects and bytes as stored."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class PeerCounts:
    """Since the client began."""

    fetched: int = 0
    fetched_bytes: int = 0
    missed: int = 0
    failed: int = 0
    lies: int = 0
    bans: int = 0
    served: int = 0
    served_bytes: int = 0
    refused: int = 0


class Counter:
    """Adds up. Concurrency: safe from any thread."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(asdict(PeerCounts()), 0)
        self._lock = threading.Lock()

    def add(self, **more: int) -> None:
        """Add to some of the counts, by their names."""
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number

    @property
    def now(self) -> PeerCounts:
        """As it is."""
        with self._lock:
            return PeerCounts(**self._counts)
