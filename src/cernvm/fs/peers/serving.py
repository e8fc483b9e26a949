"""The answering half of a peer: objects out of its depot, to so many at once and so fast.

One thread a connection; every wait has an end; a question is read by one pattern before anything touches the disk.
Whoever is refused is told to ask elsewhere, and costs no more than that.
Source: docs/formats/peers.md, "Answers".
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import Counter as Multiset
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from cernvm.core.errors import CvmError, FormatError
from cernvm.core.log import fields
from cernvm.fs.peers.counts import Counter
from cernvm.fs.peers.depot import Holdings
from cernvm.fs.peers.flights import Flights
from cernvm.fs.peers.hearsay import Hearsay
from cernvm.fs.peers.messages import (
    MAX_QUESTION_BYTES,
    Question,
    format_answer,
    is_proven,
    parse_question,
)
from cernvm.fs.peers.neighbours import Neighbours
from cernvm.fs.peers.peer import Peer, ranked
from cernvm.fs.peers.settings import PeerSettings
from cernvm.fs.peers.throttle import Throttle
from cernvm.net.listening import open_listener

IDLE_S = 30.0
QUESTION_S = 2.0  # for all of one, from its first byte
SEND_STALL_S = 5.0
SEND_S = 30.0  # for all of one answer
LISTEN_AGAIN_S = 2.0
_PART_BYTES = 64 << 10

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stock:
    """What this client can tell its peers: what it has, what is on its way, and who else has asked."""

    depot: Holdings
    flights: Flights
    hearsay: Hearsay


class PeerServer:
    """Answers peers about one repository from `start` to `close`. Concurrency: one owner."""

    def __init__(
        self,
        repository: str,
        own: Peer,
        settings: PeerSettings,
        stock: Stock,
        neighbours: Neighbours,
        counter: Counter,
        secret: bytes | None = None,
    ) -> None:
        self._repository = repository
        self._own = own
        self._settings = settings
        self._stock = stock
        self._neighbours = neighbours
        self._counter = counter
        self._secret = secret
        self._throttle = Throttle(settings.sent_bytes_per_s)
        self._open: dict[socket.socket, str] = {}
        self._per_address: Multiset[str] = Multiset()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._listener: socket.socket | None = None
        self._acceptor = threading.Thread(target=self._accept, name="peer-accept", daemon=True)

    def start(self) -> None:
        """Answer as soon as the address is free: a process before this one may still have it."""
        self._acceptor.start()

    def close(self) -> None:
        """End all conversations."""
        self._ending.set()
        with self._lock:
            sockets = [*self._open, *([self._listener] if self._listener else ())]
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(SEND_S)
        for thread in list(self._threads):
            thread.join(SEND_S)

    def _accept(self) -> None:
        listener = self._listen()
        if listener is None:
            return
        with listener:
            while not self._ending.is_set():
                try:
                    sock, (address, _) = listener.accept()
                except OSError as error:
                    if not self._ending.is_set():
                        log.debug("peer.not_accepted", extra=fields(error=str(error)))
                        self._ending.wait(0.1)  # out of descriptors: they come back
                    continue
                self._take_in(sock, address)

    def _listen(self) -> socket.socket | None:
        """The listening socket; None when the end came first."""
        was_told = False
        while not self._ending.is_set():
            try:
                listener = open_listener(self._own.address, self._own.port)
            except CvmError as error:
                if not was_told:
                    log.warning("peer.not_listening", extra=fields(error=str(error)))
                was_told = True
                self._ending.wait(LISTEN_AGAIN_S)
                continue
            listener.setblocking(True)
            with self._lock:
                self._listener = listener
            if self._ending.is_set():
                listener.close()
                return None
            log.info("peer.listening", extra=fields(own=str(self._own)))
            try:
                self._neighbours.announce(self._own)
            except (CvmError, OSError) as error:
                log.warning("peer.not_announced", extra=fields(error=str(error)))
            return listener
        return None

    def _take_in(self, sock: socket.socket, address: str) -> None:
        with self._lock:
            is_full = (
                len(self._open) >= self._settings.max_connections
                or self._per_address[address] >= self._settings.max_connections_of_one
            )
            if not is_full and not self._ending.is_set():
                self._open[sock] = address
                self._per_address[address] += 1
        if is_full or sock not in self._open:
            self._counter.add(refused=1)
            with suppress(OSError):
                sock.setblocking(False)
                sock.send(format_answer(503, "Busy"))
            sock.close()
            return
        thread = threading.Thread(target=self._run, args=(sock,), name="peer-answer", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the process may have no more threads
            self._threads.discard(thread)
            self._let_go(sock)

    def _run(self, sock: socket.socket) -> None:
        try:
            self._converse(sock)
        except (OSError, FormatError) as error:
            log.debug("peer.broken_off", extra=fields(error=str(error)))
        finally:
            self._let_go(sock)
            self._threads.discard(threading.current_thread())

    def _let_go(self, sock: socket.socket) -> None:
        with self._lock:
            address = self._open.pop(sock)
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]
        sock.close()

    def _converse(self, sock: socket.socket) -> None:
        asker_at = str(sock.getpeername()[0])
        waiting = b""
        while not self._ending.is_set():
            head, waiting = _receive_question(sock, waiting)
            if not head:
                return
            try:
                question = parse_question(head)
            except FormatError:
                self._refuse(sock, 400, "Bad Request")
                return
            if self._secret is not None and not is_proven(
                question, self._secret, self._own, time.time()
            ):
                self._refuse(sock, 403, "Forbidden")
                return
            self._answer(sock, question, asker_at)

    def _answer(self, sock: socket.socket, question: Question, asker_at: str) -> None:
        if question.repository != self._repository:
            self._refuse(sock, 404, "Not Found")
            return
        if self._throttle.is_behind:
            self._refuse(sock, 503, "Busy")
            return
        path = question.path
        asker = Peer(asker_at, question.port) if question.port else None
        # Whom we do not know we name to nobody.
        asker = asker if asker in self._neighbours.near() else None
        stored = self._stock.depot.get(path)
        if stored is None:
            is_ours = asker is not None and ranked([self._own, asker], path)[0] == self._own
            if self._stock.flights.wait(path, question.wait_s, asked_first=is_ours):
                stored = self._stock.depot.get(path)
        if stored is None:
            holder = self._stock.hearsay.holder(path, besides=asker)
            _send(sock, format_answer(404, "Not Found", ask=holder))
        else:
            self._counter.add(served=1, served_bytes=len(stored))
            _send(sock, format_answer(200, "OK", len(stored)), stored, self._throttle.pass_on)
        if asker is not None:
            self._stock.hearsay.asked(path, asker)

    def _refuse(self, sock: socket.socket, status: int, reason: str) -> None:
        self._counter.add(refused=1)
        _send(sock, format_answer(status, reason))


def _receive_question(sock: socket.socket, waiting: bytes) -> tuple[bytes, bytes]:
    """The next question's head and what came after it; nothing at the connection's end."""
    ends_at_s = time.monotonic() + (QUESTION_S if waiting else IDLE_S)
    while (at := waiting.find(b"\r\n\r\n")) < 0:
        if len(waiting) > MAX_QUESTION_BYTES:
            raise FormatError("has no end", where="a peer's question")
        sock.settimeout(max(ends_at_s - time.monotonic(), 0.001))
        received = sock.recv(MAX_QUESTION_BYTES)
        if not received:
            return b"", b""
        if not waiting:
            ends_at_s = time.monotonic() + QUESTION_S
        waiting += received
    return waiting[: at + 4], waiting[at + 4 :]


def _send(
    sock: socket.socket,
    head: bytes,
    stored: bytes = b"",
    pass_on: Callable[[int], None] = lambda _size_bytes: None,
) -> None:
    """Send an answer, in parts that wait for their turn. Errors: `OSError`, also when it is taken too slowly."""
    ends_at_s = time.monotonic() + SEND_S
    view = memoryview(head + stored[:_PART_BYTES])
    sent_of_stored = min(len(stored), _PART_BYTES)
    while view:
        pass_on(len(view))
        while view:
            left_s = ends_at_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            sock.settimeout(min(left_s, SEND_STALL_S))
            view = view[sock.send(view) :]
        view = memoryview(stored)[sent_of_stored : sent_of_stored + _PART_BYTES]
        sent_of_stored += len(view)
