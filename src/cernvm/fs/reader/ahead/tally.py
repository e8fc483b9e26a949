"""What was fetched ahead, what of it was used, and whether that pays: counted for each way of foretelling."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

JUDGED = 256  # the last so many objects decide
MIN_JUDGED = 64
REST_S = 60.0  # how long a way that did not pay is left alone


class Way(Enum):
    """How it was foretold that an object will be wanted; values are the words that users see."""

    DIRECTORY = "directory"
    CHUNK = "chunk"
    CATALOG = "catalog"
    PACK = "pack"
    PROFILE = "profile"


# The least part of what came ahead that must be used. A pack's other objects came nearly for nothing.
LEAST_USED = {
    Way.DIRECTORY: 0.1,
    Way.CHUNK: 0.25,
    Way.CATALOG: 0.1,
    Way.PACK: 0.02,
    Way.PROFILE: 0.1,
}


@dataclass(slots=True)
class Count:
    """One way's figures. Units: objects, and bytes as stored."""

    fetched: int = 0
    fetched_bytes: int = 0
    used: int = 0
    used_bytes: int = 0
    wasted: int = 0
    wasted_bytes: int = 0
    failed: int = 0
    ends: deque[bool] = field(default_factory=lambda: deque(maxlen=JUDGED))
    rests_until_s: float = 0.0


class Tally:
    """All ways' figures. Concurrency: safe from any thread."""

    def __init__(self) -> None:
        self._counts = {way: Count() for way in Way}
        self._lock = threading.Lock()

    def fetched(self, way: Way, objects: int, size_bytes: int) -> None:
        """So many objects came ahead of their readers."""
        with self._lock:
            count = self._counts[way]
            count.fetched += objects
            count.fetched_bytes += size_bytes

    def used(self, way: Way, size_bytes: int) -> None:
        """A reader wanted one that had come, or was on its way."""
        with self._lock:
            count = self._counts[way]
            count.used += 1
            count.used_bytes += size_bytes
            count.ends.append(True)

    def wasted(self, way: Way, size_bytes: int) -> None:
        """One was given up before anybody wanted it."""
        with self._lock:
            count = self._counts[way]
            count.wasted += 1
            count.wasted_bytes += size_bytes
            count.ends.append(False)

    def failed(self, way: Way) -> None:
        """One could not be fetched."""
        with self._lock:
            self._counts[way].failed += 1

    def pays(self, way: Way, now_s: float) -> bool:
        """Whether to go on in this way; one that does not pay rests, and then is tried afresh."""
        with self._lock:
            count = self._counts[way]
            if now_s < count.rests_until_s:
                return False
            ends = count.ends
            if len(ends) < MIN_JUDGED or sum(ends) >= LEAST_USED[way] * len(ends):
                return True
            ends.clear()
            count.rests_until_s = now_s + REST_S
            return False

    def total(self, name: str) -> int:
        """One figure of all ways together, by its name in `rows`."""
        return sum(row[name] for row in self.rows().values())

    def rows(self) -> dict[str, dict[str, int]]:
        """The figures as plain values, by the way's word."""
        names = (
            "fetched",
            "fetched_bytes",
            "used",
            "used_bytes",
            "wasted",
            "wasted_bytes",
            "failed",
        )
        with self._lock:
            return {
                way.value: {name: getattr(count, name) for name in names}
                for way, count in self._counts.items()
            }
