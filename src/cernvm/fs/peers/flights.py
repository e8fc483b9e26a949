"""Which objects this client is fetching just now, so that a peer that asks for one may wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Flight:
    """One object under way; `is_from_servers` once no peer is asked for it any more."""

    is_from_servers: bool = False
    landed: threading.Event = field(default_factory=threading.Event)


class Flights:
    """Paths under way. Concurrency: safe from any thread."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight] = {}
        self._lock = threading.Lock()

    @contextmanager
    def under_way(self, paths: Sequence[str]) -> Iterator[bool]:
        """These are being fetched until they `land`, or the context ends; whether all were on their way before."""
        with self._lock:
            mine = {path: _Flight() for path in paths if path not in self._flights}
            self._flights.update(mine)
        try:
            yield not mine
        finally:
            for path, flight in mine.items():
                self._end(path, flight)

    def turn_to_servers(self, paths: Iterable[str]) -> None:
        """These come from servers, if at all."""
        for path in paths:
            if (flight := self._flights.get(path)) is not None:
                flight.is_from_servers = True

    def land(self, path: str) -> None:
        """It is here."""
        if (flight := self._flights.get(path)) is not None:
            self._end(path, flight)

    def wait(self, path: str, patience_s: float, *, asked_first: bool) -> bool:
        """Whether it was under way, and is no more.

        One that peers are still asked for is waited for only if whoever waits is to ask us first: else two could wait
        for each other.
        """
        flight = self._flights.get(path)
        if flight is None or not (asked_first or flight.is_from_servers):
            return False
        return flight.landed.wait(patience_s)

    def _end(self, path: str, flight: _Flight) -> None:
        with self._lock:
            if self._flights.get(path) is flight:
                del self._flights[path]
        flight.landed.set()
