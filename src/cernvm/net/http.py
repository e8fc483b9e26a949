"""The exchange over real HTTP/1.1: connections kept alive, at most so many at once, no wait without an end.

The standard library's client is used directly because a deadline must also hold while headers drip in, which needs
every receive to be bounded; pooling libraries bound the time between two bytes only. Redirects are not followed.
"""

from __future__ import annotations

import http.client
import select
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeadlineError, HostError
from cernvm.net.connection import Connection, SecureConnection, Timing
from cernvm.net.failover import Route
from cernvm.net.lanes import MAX_BACKGROUND, MAX_CONNECTIONS, Lanes
from cernvm.net.link import Link
from cernvm.net.resolve import Resolver
from cernvm.net.terms import PLAIN, Terms

_HEADERS = {"User-Agent": "cernvm", "Accept": "*/*", "Accept-Encoding": "identity"}
_PART_BYTES = 128 * 1024
_NO_CACHE = {"Cache-Control": "no-cache", "Pragma": "no-cache"}


class HttpExchange:
    """GETs over HTTP and HTTPS (system CAs), through a proxy where the route names one."""

    def __init__(
        self,
        *,
        timing: Timing | None = None,
        max_connections: int = MAX_CONNECTIONS,
        max_background: int = MAX_BACKGROUND,
    ) -> None:
        self._timing = timing or Timing()
        self._lanes = Lanes(max_connections, max_background)
        self._idle: dict[tuple[str, str], list[Connection]] = {}
        self._lock = threading.Lock()
        self._resolver = Resolver()
        self._tls: ssl.SSLContext | None = None

    @contextmanager
    def get(
        self, route: Route, path: str, *, deadline: Deadline, terms: Terms = PLAIN
    ) -> Iterator[HttpAnswer]:
        url = f"{route.host}/{path}"
        with self._lanes.lane(terms, deadline) as is_mine:
            if not is_mine:
                action = f"waiting for a free connection to {url}"
                raise DeadlineError(action, after_s=deadline.budget_s)
            connection, answer = self._ask(route, url, terms=terms, deadline=deadline)
            try:
                yield answer
            finally:
                self._give_back(route, connection, answer)

    @property
    def link(self) -> Link:
        return self._lanes.link

    def _ask(
        self, route: Route, url: str, *, terms: Terms, deadline: Deadline
    ) -> tuple[Connection, HttpAnswer]:
        """Send the request on an idle connection; a server may just then have closed it, so a new one follows."""
        idle = self._take_idle(route)
        if idle is not None:
            try:
                return idle, self._ask_on(idle, url, terms=terms, deadline=deadline)
            except HostError:
                pass
        new = self._new_connection(route)
        return new, self._ask_on(new, url, terms=terms, deadline=deadline)

    def _ask_on(
        self, connection: Connection, url: str, *, terms: Terms, deadline: Deadline
    ) -> HttpAnswer:
        headers = _headers_of(terms)
        connection.watch.begin(deadline)
        answer = None
        try:
            with _host_errors(url, self._timing):
                connection.request("GET", connection.target(url), headers=headers)
                answer = HttpAnswer(url, connection.getresponse(), self._timing)
                return answer
        finally:
            if answer is None:
                connection.close()

    def _take_idle(self, route: Route) -> Connection | None:
        while True:
            with self._lock:
                idle = self._idle.get(_origin(route))
                if not idle:
                    return None
                connection = idle.pop()
            if not _has_ended(connection):
                return connection
            connection.close()

    def _give_back(self, route: Route, connection: Connection, answer: HttpAnswer) -> None:
        """Keep the connection for the next exchange if its answer was read to the end."""
        if not answer.leaves_connection_usable:
            answer.close()
            connection.close()
            return
        with self._lock:
            self._idle.setdefault(_origin(route), []).append(connection)

    def _new_connection(self, route: Route) -> Connection:
        target = urlsplit(route.host)
        hop = urlsplit(route.proxy) if route.via_proxy else target
        hop_host = hop.hostname or ""
        hop_port = hop.port or (443 if hop.scheme == "https" else 80)
        if target.scheme == "http":
            return Connection(
                hop_host, hop_port, self._timing, self._resolver, absolute=route.via_proxy
            )
        if self._tls is None:
            self._tls = ssl.create_default_context()
        secure = SecureConnection(hop_host, hop_port, self._timing, self._resolver, self._tls)
        if route.via_proxy:
            secure.set_tunnel(target.hostname or "", target.port or 443)
        return secure

    def close(self) -> None:
        with self._lock:
            idle = [connection for group in self._idle.values() for connection in group]
            self._idle.clear()
        for connection in idle:
            connection.close()


class HttpAnswer:
    """One HTTP answer on a live connection."""

    def __init__(self, url: str, response: http.client.HTTPResponse, timing: Timing) -> None:
        self._url = url
        self._response = response
        self._timing = timing
        self.leaves_connection_usable = False
        self.status = response.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }

    def parts(self) -> Iterator[bytes]:
        expected = self._response.length  # None: chunked, or until the connection closes
        received = 0
        while part := self._read_part():
            received += len(part)
            yield part
        if expected is not None and received != expected:
            raise HostError(self._url, f"the answer ended after {received} of {expected} bytes")
        self.close()
        self.leaves_connection_usable = not self._response.will_close

    def close(self) -> None:
        """Let go of the library's response; the connection stays."""
        self._response.close()

    def _read_part(self) -> bytes:
        # read1 returns what one receive brings; read would gather single bytes without end.
        with _host_errors(self._url, self._timing):
            return self._response.read1(_PART_BYTES)


@contextmanager
def _host_errors(url: str, timing: Timing) -> Iterator[None]:
    """Turn what sockets, TLS and HTTP parsing raise into our errors."""
    try:
        yield
    except TimeoutError as error:
        raise DeadlineError(
            f"waiting for {url} ({error})" if str(error) else f"waiting for {url}",
            after_s=timing.stall_s,
        ) from error
    except ssl.SSLError as error:
        raise HostError(url, f"no secure connection: {error.reason or error}") from error
    except http.client.HTTPException as error:
        reason = str(error)[:200] or type(error).__name__
        raise HostError(url, f"this is no HTTP server: {reason}") from error
    except OSError as error:
        raise HostError(url, (error.strerror or str(error)).lower()) from error


def _headers_of(terms: Terms) -> Mapping[str, str]:
    headers = _HEADERS
    if terms.no_cache:
        headers = headers | _NO_CACHE
    if terms.byte_range is not None:
        headers = headers | {"Range": "bytes={}-{}".format(*terms.byte_range)}
    if terms.credentials is not None and terms.credentials.bearer_token:
        headers = headers | {"Authorization": f"Bearer {terms.credentials.bearer_token}"}
    return headers


def _origin(route: Route) -> tuple[str, str]:
    parts = urlsplit(route.host)
    return f"{parts.scheme}://{parts.netloc}", route.proxy


def _has_ended(connection: Connection) -> bool:
    """Whether an idle connection has something to say, which can only be its end."""
    if connection.sock is None or connection.sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection.sock.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))
