"""Who is near: the port, those of a given list, and the twin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from cernvm.fs.peers.peer import Peer

MAX_PEERS = 64


class Neighbours(Protocol):
    """The peers of one repository. Concurrency: safe from any thread; no verb waits for the network."""

    def near(self) -> tuple[Peer, ...]:
        """Those that may be asked, without ourselves; at most `MAX_PEERS`, any of which may be gone or lie."""

    def announce(self, own: Peer) -> None:
        """State that we answer there."""

    def close(self) -> None:
        """Take the announcement back."""


class ListedNeighbours:
    """Those that somebody has listed; the list may be the same for all and hold ourselves."""

    def __init__(self, peers: Iterable[Peer], own: Peer) -> None:
        unique = dict.fromkeys(peers)
        unique.pop(own, None)
        self._peers = tuple(unique)[:MAX_PEERS]

    def near(self) -> tuple[Peer, ...]:
        return self._peers

    def announce(self, own: Peer) -> None:
        pass

    def close(self) -> None:
        pass


class MemoryNeighbours:
    """All that share one `meeting` are near each other: the twin."""

    def __init__(self, meeting: set[Peer]) -> None:
        self._meeting = meeting
        self._own: Peer | None = None

    def near(self) -> tuple[Peer, ...]:
        return tuple(sorted(peer for peer in self._meeting if peer != self._own))[:MAX_PEERS]

    def announce(self, own: Peer) -> None:
        self._own = own
        self._meeting.add(own)

    def close(self) -> None:
        if self._own is not None:
            self._meeting.discard(self._own)
