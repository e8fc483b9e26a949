"""Putting the parts of a peer together, and taking all of them down however that ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from cernvm.core.errors import InvalidInputError
from cernvm.fs.peers.asking import Asker
from cernvm.fs.peers.counts import Counter
from cernvm.fs.peers.depot import Depot, Holdings
from cernvm.fs.peers.fetcher import PeerFetcher
from cernvm.fs.peers.flights import Flights
from cernvm.fs.peers.hearsay import Hearsay
from cernvm.fs.peers.neighbours import ListedNeighbours, Neighbours
from cernvm.fs.peers.peer import Peer, default_port, parse_peer
from cernvm.fs.peers.secret import read_secret
from cernvm.fs.peers.serving import PeerServer, Stock
from cernvm.fs.peers.settings import MODES, PeerSettings
from cernvm.fs.peers.standing import Standings
from cernvm.net import Fetcher

_LOOPBACK = "127.0.0.1"


class Peers:
    """A client among its peers: the fetcher that asks them, and what there is to tell about it."""

    def __init__(
        self,
        fetcher: Fetcher,
        own: Peer | None = None,
        neighbours: Neighbours | None = None,
        standings: Standings | None = None,
        counter: Counter | None = None,
    ) -> None:
        self.fetcher = fetcher
        self._own = own
        self._neighbours = neighbours
        self._standings = standings
        self.counter = counter or Counter()

    def counters(self) -> Mapping[str, object]:
        """Plain values for whoever watches; nothing while peers are off."""
        if self._own is None or self._neighbours is None or self._standings is None:
            return {}
        return {
            "own": str(self._own),
            "near": len(self._neighbours.near()),
            "left_alone": self._standings.left_alone(),
            **asdict(self.counter.now),
        }


@contextmanager
def open_peers(
    settings: PeerSettings,
    repository: str,
    servers: Fetcher,
    folder: Path | None = None,
    *,
    holdings: Holdings | None = None,
    neighbours: Neighbours | None = None,
) -> Iterator[Peers]:
    """Join the peers, if that is wanted; `servers` is asked for what they do not have, and is not closed.

    Shape: what is kept for peers lies below `folder` unless the settings name another, or there are `holdings` already.
    `neighbours` stands for those that the settings name.
    Errors: `InvalidInputError`, `NotFoundError`, `DeniedError` for settings that cannot be; `PrerequisiteError` without
    the extra `peers`.
    """
    if settings.mode not in MODES:
        raise InvalidInputError(
            f"{settings.mode!r} is no way to find peers", advice=f"choose one of {', '.join(MODES)}"
        )
    if settings.mode == "off":
        yield Peers(servers)
        return
    port = default_port(repository)
    listed = [parse_peer(text, port) for text in settings.addresses]
    own = parse_peer(settings.listen, port) if settings.listen else _own(listed, port)
    secret = read_secret(settings.secret) if settings.secret else None
    stock = Stock(holdings or _depot(settings, repository, folder), Flights(), Hearsay())
    standings, counter = Standings(), Counter()
    near = neighbours or _neighbours(settings, repository, own, listed, secret)
    asker = Asker(
        repository,
        own,
        standings,
        counter,
        head_start_s=settings.head_start_s,
        pace=lambda: servers.link.bytes_per_s,
        secret=secret,
    )
    server = PeerServer(repository, own, settings, stock, near, counter, secret)
    try:
        server.start()
        fetcher = PeerFetcher(servers, asker, stock, near, own, counter)
        yield Peers(fetcher, own, near, standings, counter)
    finally:
        server.close()
        asker.close()
        near.close()


def _depot(settings: PeerSettings, repository: str, folder: Path | None) -> Depot:
    place = settings.folder or folder
    if place is None:
        raise InvalidInputError("there is no folder for what is kept for peers")
    return Depot(place / repository, settings.depot_bytes)


def _own(listed: list[Peer], port: int) -> Peer:
    """Which of a list that all have is this machine."""
    here = [peer for peer in listed if _is_here(peer.address)]
    return here[0] if here else Peer(_LOOPBACK, port)


def _is_here(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
        return True


def _neighbours(
    settings: PeerSettings, repository: str, own: Peer, listed: list[Peer], secret: bytes | None
) -> Neighbours:
    if settings.mode == "list":
        return ListedNeighbours(listed, own)
    from cernvm.fs.peers.announcing import ZeroconfNeighbours  # noqa: PLC0415  # its library is an extra

    return ZeroconfNeighbours(repository, own, secret)
