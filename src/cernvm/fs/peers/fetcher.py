"""A fetcher that asks peers first, for a moment, and then the servers; what it gets it keeps for its peers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, FormatError, TrustError
from cernvm.fs.format.objects import parse_object_path
from cernvm.fs.peers.asking import MANY_HEAD_STARTS, Asker, Request, Told
from cernvm.fs.peers.counts import Counter
from cernvm.fs.peers.depot import MAX_OBJECT_BYTES
from cernvm.fs.peers.neighbours import Neighbours
from cernvm.fs.peers.peer import Peer, ranked
from cernvm.fs.peers.serving import Stock
from cernvm.net import Attempt, Credentials, Fetcher, Link, Sink, Traffic, Urgency, Want
from cernvm.net.failover import Route

MAX_ASKED = 3
MANY = 32  # asked of one peer at once

T = TypeVar("T")


class PeerFetcher:
    """A `Fetcher` over another one. Only objects go to peers, and none that needs credentials."""

    def __init__(
        self,
        servers: Fetcher,
        asker: Asker,
        stock: Stock,
        neighbours: Neighbours,
        own: Peer,
        counter: Counter,
    ) -> None:
        self._servers = servers
        self._asker = asker
        self._stock = stock
        self._neighbours = neighbours
        self._own = own
        self._counter = counter

    def fetch_into(
        self,
        path: str,
        open_sink: Callable[[], Sink[T]],
        *,
        limit_bytes: int,
        deadline: Deadline,
        on_attempt: Callable[[Attempt], None] | None = None,
        urgency: Urgency = Urgency.FOREGROUND,
        byte_range: tuple[int, int] | None = None,
        credentials: Credentials | None = None,
    ) -> T:
        if byte_range is not None or credentials is not None or not _is_object(path):
            return self._servers.fetch_into(
                path,
                open_sink,
                limit_bytes=limit_bytes,
                deadline=deadline,
                on_attempt=on_attempt,
                urgency=urgency,
                byte_range=byte_range,
                credentials=credentials,
            )
        with self._stock.flights.under_way([path]) as comes_anyway:
            if comes_anyway:  # fetched ahead, with others: a peer would be waited for as long
                patience_s = min(self._asker.head_start_s, deadline.remaining_s) / 2
                self._stock.flights.wait(path, patience_s, asked_first=True)
            stored = self._near([Request(path, limit_bytes)], deadline).get(path)
            if stored is not None:
                try:
                    return _pour(stored, open_sink())
                except (TrustError, FormatError):
                    pass  # the object itself is wrong: servers say so too, and are to be named
            self._stock.flights.turn_to_servers([path])
            return self._servers.fetch_into(
                path,
                self._keeping(path, open_sink),
                limit_bytes=limit_bytes,
                deadline=deadline,
                on_attempt=on_attempt,
                urgency=urgency,
            )

    def fetch_many(self, wants: Sequence[Want[T]], *, deadline: Deadline) -> Iterator[T | CvmError]:
        requests = [Request(want.path, want.limit_bytes) for want in wants if _is_object(want.path)]
        with self._stock.flights.under_way([request.path for request in requests]):
            near = self._near(requests, deadline)
            rest = [
                Want(want.path, self._keeping(want.path, want.open_sink), want.limit_bytes)
                for want in wants
                if want.path not in near
            ]
            self._stock.flights.turn_to_servers([want.path for want in rest])
            others = self._of_servers(rest, deadline)
            with closing(others):
                for want in wants:
                    stored = near.get(want.path)
                    if stored is None:
                        yield next(others)
                        continue
                    poured = _poured(want, stored)
                    yield poured

    def _of_servers(
        self, wants: Sequence[Want[T]], deadline: Deadline
    ) -> Generator[T | CvmError, None, None]:
        yield from self._servers.fetch_many(wants, deadline=deadline)

    def _keeping(self, path: str, open_sink: Callable[[], Sink[T]]) -> Callable[[], Sink[T]]:
        """Sinks that leave what they accept in the depot too."""
        if not _is_object(path):
            return open_sink
        return lambda: _KeptSink(open_sink(), lambda stored: self._keep(path, stored))

    def _keep(self, path: str, stored: bytes) -> None:
        self._stock.depot.put(path, stored)
        self._stock.flights.land(path)

    def _near(self, requests: Sequence[Request], deadline: Deadline) -> dict[str, bytes]:
        """What our own depot and peers have of it, each with its digest; takes a few head starts at most."""
        found: dict[str, bytes] = {}
        open_requests = []
        for request in requests:
            stored = self._stock.depot.get(request.path)
            if stored is not None and len(stored) <= request.limit_bytes:
                found[request.path] = stored
            elif request.path not in found:
                open_requests.append(request)
        may_be_asked = self._asker.standings.may_be_asked
        peers = [peer for peer in self._neighbours.near() if may_be_asked(peer)]
        if open_requests and peers:
            for path, stored in self._of_peers(open_requests, peers, deadline).items():
                self._keep(path, stored)
                found[path] = stored
            self._counter.add(missed=sum(request.path not in found for request in open_requests))
        return found

    def _of_peers(
        self, requests: Sequence[Request], peers: Sequence[Peer], deadline: Deadline
    ) -> dict[str, bytes]:
        is_single = len(requests) == 1
        head_start_s = self._asker.head_start_s
        all_s = head_start_s if is_single else MANY_HEAD_STARTS * head_start_s
        until = Deadline.after(min(all_s, deadline.remaining_s))
        found: dict[str, bytes] = {}
        to_ask = {request.path: self._order(request.path, peers) for request in requests}
        for _ in range(MAX_ASKED):
            rounds: dict[Peer, list[Request]] = {}
            for request in requests:
                if request.path not in found and to_ask[request.path]:
                    rounds.setdefault(to_ask[request.path].pop(0), []).append(request)
            for peer, asked in rounds.items():
                for first in range(0, len(asked), MANY):
                    if until.has_passed:
                        return found
                    batch = asked[first : first + MANY]
                    begin = until if is_single else Deadline.after(head_start_s)
                    tolds = self._asker.ask(peer, batch, begin)
                    for request, told in zip(batch, tolds, strict=True):
                        _note(request.path, told, peers, found, to_ask[request.path])
        return found

    def _order(self, path: str, peers: Sequence[Peer]) -> list[Peer]:
        """Whom to ask for an object: who has asked us for it, its owner, and who would be that without us."""
        heard = self._stock.hearsay.holder(path)
        known = [heard] if heard in peers and heard is not None else []
        return [*known, *(peer for peer in ranked(peers, path)[:2] if peer != heard)]

    @property
    def hosts(self) -> tuple[str, ...]:
        return self._servers.hosts

    @property
    def proxy(self) -> str:
        return self._servers.proxy

    @property
    def routes(self) -> tuple[Route, ...]:
        return self._servers.routes

    @property
    def link(self) -> Link:
        return self._servers.link

    @property
    def traffic(self) -> Traffic:
        return self._servers.traffic

    def close(self) -> None:
        self._servers.close()


class _KeptSink(Sink[T]):
    """Gives all to another sink, and what that one accepted to the depot."""

    def __init__(self, sink: Sink[T], keep: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._keep = keep
        self._parts: list[bytes] = []
        self._size_bytes = 0

    def write(self, data: bytes, /) -> None:
        self._sink.write(data)
        self._size_bytes += len(data)
        if self._size_bytes > MAX_OBJECT_BYTES:
            self._parts.clear()
        else:
            self._parts.append(data)

    def finish(self) -> T:
        accepted = self._sink.finish()
        if self._size_bytes <= MAX_OBJECT_BYTES:
            self._keep(b"".join(self._parts))
        return accepted

    def discard(self) -> None:
        self._parts.clear()
        self._sink.discard()


def _is_object(path: str) -> bool:
    try:
        parse_object_path(path)
    except FormatError:
        return False
    return True


def _note(
    path: str, told: Told, peers: Sequence[Peer], found: dict[str, bytes], to_ask: list[Peer]
) -> None:
    """A peer may name others that we know; anything else that it names is nobody."""
    if told.stored is not None:
        found[path] = told.stored
    elif told.referral in peers and told.referral is not None:
        to_ask[:] = [told.referral, *(peer for peer in to_ask if peer != told.referral)]


def _pour(stored: bytes, sink: Sink[T]) -> T:
    try:
        sink.write(stored)
        return sink.finish()
    finally:
        sink.discard()


def _poured(want: Want[T], stored: bytes) -> T | CvmError:
    sink: Sink[T] = want.open_sink()
    try:
        return _pour(stored, sink)
    except CvmError as error:
        return error
