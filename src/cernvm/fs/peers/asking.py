"""The asking half of a peer: GETs to one peer at a time, each within a head start, and whatever comes is judged.

Nothing is given on that has not the digest of its name. A peer that is silent, slow or lies is left alone for a
growing while, so that it costs a reader one head start now and then.
Source: docs/formats/peers.md, "Head start".
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cernvm.core.clock import Deadline
from cernvm.core.errors import FormatError
from cernvm.core.log import fields
from cernvm.fs.peers.counts import Counter
from cernvm.fs.peers.depot import MAX_OBJECT_BYTES, is_right
from cernvm.fs.peers.messages import REFERRAL, format_question, parse_referral
from cernvm.fs.peers.peer import Peer
from cernvm.fs.peers.standing import Blame, Standings
from cernvm.net.connection import Timing
from cernvm.net.resolve import Resolver
from cernvm.net.wire import EndedError, Wire

LEAST_PACE_BYTES_PER_S = 1 << 20
MAX_AT_ONCE = 3  # conversations with one peer, one less than it allows us
# The parts of a head start that a peer may wait for what is on its way to it: for the first object, and for all others.
_WAITING_SHARE, _WAITING_SHARE_OF_OTHERS = 0.6, 1.5
_MAX_LINES = 256  # those whom announcements name may come and go
MANY_HEAD_STARTS = 4  # what many objects together may wait for

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One object to ask for. Units: `limit_bytes` is the longest that it may be, as stored."""

    path: str
    limit_bytes: int


@dataclass(slots=True)
class Told:
    """What peers said of one object: its bytes, whose digest is right, or who may have it."""

    stored: bytes | None = None
    referral: Peer | None = None


@dataclass(slots=True)
class _Line:
    """The connections to one peer."""

    slots: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MAX_AT_ONCE)
    )
    idle: list[Wire] = field(default_factory=list)


class Asker:
    """Asks peers about one repository. Concurrency: safe from any thread."""

    def __init__(
        self,
        repository: str,
        own: Peer,
        standings: Standings,
        counter: Counter,
        *,
        head_start_s: float,
        pace: Callable[[], float],
        secret: bytes | None = None,
    ) -> None:
        self._repository = repository
        self._own = own
        self.standings = standings
        self._counter = counter
        self.head_start_s = head_start_s
        self._pace = pace
        self._secret = secret
        self._lines: dict[Peer, _Line] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def ask(self, peer: Peer, requests: Sequence[Request], deadline: Deadline) -> list[Told]:
        """What a peer says of each; nothing of those that it leaves unanswered. Raises nothing.

        An answer must begin before `deadline`, of many together within a few head starts, and then come at a fair pace.
        """
        tolds = [Told() for _ in requests]
        line = self._line(peer)
        if not self.standings.may_be_asked(peer):
            return tolds
        # A turn is waited for in the first half of the head start, so that the peer has the other half to answer in.
        if not line.slots.acquire(timeout=deadline.remaining_s / 2):
            return tolds
        if not self.standings.may_be_asked(
            peer
        ):  # those who had their turn before us have learned why
            line.slots.release()
            return tolds
        try:
            blame = self._converse(peer, line, requests, tolds, deadline)
        finally:
            line.slots.release()
        found = [told.stored for told in tolds if told.stored is not None]
        self._counter.add(fetched=len(found), fetched_bytes=sum(map(len, found)))
        if blame is None:
            self.standings.went_well(peer)
        else:
            self._blame(peer, blame)
        return tolds

    def close(self) -> None:
        """Close idle connections; others close when they end."""
        with self._lock:
            self._is_closed = True
            idle = [wire for line in self._lines.values() for wire in line.idle]
            self._lines.clear()
        for wire in idle:
            wire.close()

    def _converse(
        self,
        peer: Peer,
        line: _Line,
        requests: Sequence[Request],
        tolds: list[Told],
        deadline: Deadline,
    ) -> Blame | None:
        wire = self._take_idle(line)
        is_fresh = wire is None
        try:
            if wire is None:
                wire = self._connected(peer, deadline)
            blame = self._exchange(peer, wire, requests, tolds, deadline)
        except (EndedError, BrokenPipeError, ConnectionResetError):
            _close(wire)
            if is_fresh:
                return Blame.FAILED
            return self._converse_anew(peer, requests, tolds, deadline, line)
        except (OSError, EOFError):
            _close(wire)
            return Blame.FAILED
        except FormatError:
            _close(wire)
            return Blame.LIED
        if blame is None:
            self._give_back(peer, line, wire)
        else:
            wire.close()
        return blame

    def _converse_anew(
        self,
        peer: Peer,
        requests: Sequence[Request],
        tolds: list[Told],
        deadline: Deadline,
        line: _Line,
    ) -> Blame | None:
        """A kept connection had ended meanwhile, and so have the others that were kept."""
        with self._lock:
            idle, line.idle = line.idle, []
        for wire in idle:
            wire.close()
        return self._converse(peer, line, requests, tolds, deadline)

    def _connected(self, peer: Peer, deadline: Deadline) -> Wire:
        stall_s = self.head_start_s
        wire = Wire(
            peer.address,
            peer.port,
            Timing(stall_s, stall_s, 0),
            Resolver(),
            source=self._own.address,
        )
        wire.connect(deadline)
        return wire

    def _exchange(
        self,
        peer: Peer,
        wire: Wire,
        requests: Sequence[Request],
        tolds: list[Told],
        deadline: Deadline,
    ) -> Blame | None:
        """Ask for all at once, and hear the answers in their order."""
        is_single = len(requests) == 1
        first_wait_s = _WAITING_SHARE * deadline.remaining_s
        other_wait_s = _WAITING_SHARE_OF_OTHERS * self.head_start_s / len(requests)
        wire.watch.begin(deadline)
        wire.send(
            b"".join(
                format_question(
                    self._repository,
                    request.path,
                    peer,
                    port=self._own.port,
                    wait_s=other_wait_s if number else first_wait_s,
                    secret=self._secret,
                    now_s=time.time(),
                )
                for number, request in enumerate(requests)
            )
        )
        if not is_single:
            deadline = Deadline.after(MANY_HEAD_STARTS * self.head_start_s)
        for request, told in zip(requests, tolds, strict=True):
            wire.watch.begin(deadline)
            blame = self._hear(wire, request, told, None if is_single else deadline)
            if blame is not None:
                return blame
        return None

    def _hear(
        self, wire: Wire, request: Request, told: Told, deadline: Deadline | None
    ) -> Blame | None:
        """One answer; its body gets the time of a fair pace, and what is left until `deadline` or a head start more."""
        head = wire.receive_head()
        if head.length_bytes is None:
            raise FormatError("a peer says how long its answer is")
        if head.status == 200:
            if head.length_bytes > min(request.limit_bytes, MAX_OBJECT_BYTES):
                return Blame.FAILED
            pace = max(self._pace() / 2, LEAST_PACE_BYTES_PER_S)
            spare_s = self.head_start_s if deadline is None else deadline.remaining_s
            wire.watch.begin(Deadline.after(spare_s + head.length_bytes / pace))
            stored = b"".join(wire.body(head))
            if not is_right(request.path, stored):
                return Blame.LIED
            told.stored = stored
            return None
        if head.length_bytes:
            return Blame.LIED
        if head.status == 404:
            told.referral = parse_referral(head.headers.get(REFERRAL, ""))
            return None
        return Blame.BUSY if head.status == 503 else Blame.FAILED

    def _blame(self, peer: Peer, blame: Blame) -> None:
        rest_s = self.standings.blame(peer, blame)
        if blame is Blame.BUSY:
            return
        self._counter.add(failed=1, lies=int(blame is Blame.LIED), bans=int(rest_s > 0))
        if rest_s:
            level = logging.WARNING if blame is Blame.LIED else logging.INFO
            told = fields(peer=str(peer), reason=blame.value, rest_s=rest_s)
            log.log(level, "peer.left_alone", extra=told)

    def _line(self, peer: Peer) -> _Line:
        forgotten: list[Wire] = []
        with self._lock:
            if peer not in self._lines and len(self._lines) >= _MAX_LINES:
                forgotten = [wire for line in self._lines.values() for wire in line.idle]
                self._lines.clear()  # conversations under way close their own
            found = self._lines.setdefault(peer, _Line())
        for wire in forgotten:
            wire.close()
        return found

    def _take_idle(self, line: _Line) -> Wire | None:
        while True:
            with self._lock:
                wire = line.idle.pop() if line.idle else None
            if wire is None or not wire.has_ended:
                return wire
            wire.close()

    def _give_back(self, peer: Peer, line: _Line, wire: Wire) -> None:
        with self._lock:
            if not self._is_closed and not wire.has_leftovers and self._lines.get(peer) is line:
                line.idle.append(wire)
                return
        wire.close()


def _close(wire: Wire | None) -> None:
    if wire is not None:
        wire.close()
