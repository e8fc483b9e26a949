"""Which objects this client is fetching from servers just now, so that a peer that asks may wait for one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Flights:
    """Paths under way. Concurrency: safe from any thread."""

    def __init__(self) -> None:
        self._landings: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    @contextmanager
    def under_way(self, paths: Sequence[str]) -> Iterator[None]:
        """These are being fetched for as long as the context lasts."""
        landed = threading.Event()
        with self._lock:
            mine = [path for path in paths if self._landings.setdefault(path, landed) is landed]
        try:
            yield
        finally:
            with self._lock:
                for path in mine:
                    del self._landings[path]
            landed.set()

    def wait(self, path: str, patience_s: float) -> bool:
        """Whether it was under way, and is no more."""
        landed = self._landings.get(path)
        return landed is not None and landed.wait(patience_s)
