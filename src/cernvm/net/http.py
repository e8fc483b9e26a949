"""The exchange over real HTTP/1.1: connections kept alive, at most so many at once, no wait without an end.

Redirects, retries and fail-over are not its business. Source: docs/decisions/every-receive-is-bounded.md.
"""

from __future__ import annotations

import hashlib
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeadlineError, FormatError, HostError
from cernvm.net.connection import Timing, UnconnectedError
from cernvm.net.failover import Route
from cernvm.net.head import Head
from cernvm.net.lanes import MAX_BACKGROUND, MAX_CONNECTIONS, Lanes
from cernvm.net.link import Link
from cernvm.net.origin import Origin, origin_of
from cernvm.net.resolve import Resolver
from cernvm.net.secrets import client_context
from cernvm.net.terms import PLAIN, Credentials, Terms
from cernvm.net.wire import EndedError, Wire

_HEADERS = "User-Agent: cernvm\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
_NO_CACHE = "Cache-Control: no-cache\r\nPragma: no-cache\r\n"
_MAX_IDLE = 64


class HttpExchange:
    """GETs over HTTP and HTTPS (system CAs), through a proxy where the route names one."""

    def __init__(
        self,
        *,
        timing: Timing | None = None,
        proxy_timing: Timing | None = None,
        max_connections: int = MAX_CONNECTIONS,
        max_background: int = MAX_BACKGROUND,
        resolver: Resolver | None = None,
    ) -> None:
        self._timing = timing or Timing()
        self._proxy_timing = proxy_timing or self._timing
        self._lanes = Lanes(max_connections, max_background)
        self._idle: dict[tuple[Origin, bytes], list[Wire]] = {}
        self._idle_count = 0
        self._lock = threading.Lock()
        self._resolver = resolver or Resolver()
        self._tls: ssl.SSLContext | None = None

    @contextmanager
    def get(
        self, route: Route, path: str, *, deadline: Deadline, terms: Terms = PLAIN
    ) -> Iterator[HttpAnswer]:
        url = f"{route.host}/{path}"
        if not (path.isascii() and path.isprintable() and " " not in path):
            raise HostError(url, "this is no path of a URL")
        with self._lanes.lane(terms, deadline) as is_mine:
            if not is_mine:
                action = f"waiting for a free connection to {url}"
                raise DeadlineError(action, after_s=deadline.budget_s)
            origin = origin_of(route)
            wire, answer = self._ask(origin, url, path, terms=terms, deadline=deadline)
            try:
                yield answer
            finally:
                self._give_back(origin, wire, answer, terms)

    @property
    def link(self) -> Link:
        return self._lanes.link

    def _ask(
        self, origin: Origin, url: str, path: str, *, terms: Terms, deadline: Deadline
    ) -> tuple[Wire, HttpAnswer]:
        """Send the request on an idle connection; a server may just then have closed it, so a new one follows."""
        request = _request(origin, path, terms)
        timing = self._timing_of(origin, terms)
        idle = self._take_idle(origin, terms.credentials)
        if idle is not None:
            idle.watch.timing = timing
            idle.watch.begin(deadline)
            with suppress(EndedError, BrokenPipeError, ConnectionResetError):
                return idle, self._ask_on(idle, url, request, terms, deadline, is_kept=True)
        wire = self._new_wire(origin, terms.credentials, timing)
        with _host_errors(url, wire):
            wire.connect(deadline)
        return wire, self._ask_on(wire, url, request, terms, deadline, is_kept=False)

    def _ask_on(
        self,
        wire: Wire,
        url: str,
        request: bytes,
        terms: Terms,
        deadline: Deadline,
        *,
        is_kept: bool,
    ) -> HttpAnswer:
        with _host_errors(url, wire, lets_out=is_kept):
            sent_s = time.monotonic()
            wire.send(request)
            head = wire.receive_head()
            self._lanes.waited(time.monotonic() - sent_s)
        return HttpAnswer(url, wire, head, self._lanes, terms, deadline)

    def _timing_of(self, origin: Origin, terms: Terms) -> Timing:
        timing = self._proxy_timing if origin.proxy else self._timing
        if terms.patience_s is None:
            return timing
        patience_s = max(terms.patience_s, 0.1)
        return replace(
            timing,
            connect_s=min(timing.connect_s, patience_s),
            stall_s=min(timing.stall_s, patience_s),
        )

    def _take_idle(self, origin: Origin, credentials: Credentials | None) -> Wire | None:
        key = (origin, _identity(credentials))
        while True:
            with self._lock:
                idle = self._idle.get(key)
                if not idle:
                    return None
                wire = idle.pop()
                self._idle_count -= 1
            if not wire.has_ended:
                return wire
            wire.close()

    def _give_back(self, origin: Origin, wire: Wire, answer: HttpAnswer, terms: Terms) -> None:
        """Keep the connection for the next exchange if its answer was read to the end."""
        if answer.was_read and answer.head.keeps_open and not wire.has_leftovers:
            with self._lock:
                if self._idle_count < _MAX_IDLE:
                    key = (origin, _identity(terms.credentials))
                    self._idle.setdefault(key, []).append(wire)
                    self._idle_count += 1
                    return
        wire.close()

    def _new_wire(self, origin: Origin, credentials: Credentials | None, timing: Timing) -> Wire:
        host, port = origin.proxy or (origin.host, origin.port)
        if not origin.is_secure:
            return Wire(host, port, timing, self._resolver)
        tunnel_to = (origin.host, origin.port) if origin.proxy else None
        tls = self._context(credentials)
        return Wire(host, port, timing, self._resolver, tls=tls, tunnel_to=tunnel_to)

    def _context(self, credentials: Credentials | None) -> ssl.SSLContext:
        if credentials is not None and credentials.certificate_pem:
            return client_context(credentials.certificate_pem)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def close(self) -> None:
        with self._lock:
            idle = [wire for group in self._idle.values() for wire in group]
            self._idle.clear()
            self._idle_count = 0
        for wire in idle:
            wire.close()


@dataclass(slots=True)
class HttpAnswer:
    """One HTTP answer on a live connection."""

    url: str
    wire: Wire
    head: Head
    lanes: Lanes
    terms: Terms
    deadline: Deadline
    was_read: bool = False

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.head.headers

    def parts(self) -> Iterator[bytes]:
        received = 0
        with _host_errors(self.url, self.wire):
            for part in self.wire.body(self.head):
                received += len(part)
                self.lanes.received(len(part))
                yield part
                if self.terms.in_background:
                    self.lanes.make_way(self.deadline)
        self.was_read = True
        self.lanes.finished(self.terms, received)


def _request(origin: Origin, path: str, terms: Terms) -> bytes:
    text = f"GET {origin.prefix}{path} HTTP/1.1\r\nHost: {origin.authority}\r\n{_HEADERS}"
    if terms.no_cache:
        text += _NO_CACHE
    if terms.byte_range is not None:
        text += "Range: bytes={}-{}\r\n".format(*terms.byte_range)
    if terms.credentials is not None and terms.credentials.bearer_token:
        text += f"Authorization: Bearer {terms.credentials.bearer_token}\r\n"
    return (text + "\r\n").encode("ascii")


def _identity(credentials: Credentials | None) -> bytes:
    """Connections that were opened with a certificate are its owner's alone."""
    if credentials is None or not credentials.certificate_pem:
        return b""
    return hashlib.sha256(credentials.certificate_pem).digest()


@contextmanager
def _host_errors(url: str, wire: Wire, *, lets_out: bool = False) -> Iterator[None]:
    """Turn what sockets, TLS and HTTP parsing raise into our errors; the connection is of no use then.

    `lets_out`: what a kept connection raises when the server had just closed it is for the caller.
    """
    try:
        yield
    except BaseException as error:
        wire.close()
        if lets_out and isinstance(error, EndedError | BrokenPipeError | ConnectionResetError):
            raise
        if isinstance(error, OSError | EOFError | FormatError):
            raise _host_error(url, wire.watch.timing, error) from error
        raise


def _host_error(url: str, timing: Timing, error: Exception) -> HostError | DeadlineError:
    if isinstance(error, UnconnectedError):
        return HostError(url, str(error))
    if isinstance(error, TimeoutError):
        reason = f" ({error})" if str(error) else ""
        return DeadlineError(f"waiting for {url}{reason}", after_s=timing.stall_s)
    if isinstance(error, ssl.SSLError):
        return HostError(url, f"no secure connection: {error.reason or error}")
    if isinstance(error, EOFError):
        return HostError(url, f"the answer ended {error}")
    if isinstance(error, FormatError):
        return HostError(url, f"this is no HTTP server: {error.what}")
    return HostError(url, (getattr(error, "strerror", "") or str(error)).lower())
