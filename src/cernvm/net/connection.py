"""Every send and receive of HTTP bounded: by silence, by slowness and by the request's deadline.

`Watch` is what bounds them, here and in `wire.py`; `Connection` is for rooms that ask little and are no fetchers.
Source: docs/decisions/every-receive-is-bounded.md.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cernvm.core.clock import Deadline
from cernvm.net.resolve import Resolver

_BUFFER_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Timing:
    """When a host counts as dead.

    Units: `stall_s` is the longest silence, and the window in which at least `slow_bytes_per_s` must arrive;
    with 0 of these a host may be as slow as its request's deadline allows.
    """

    connect_s: float = 5.0
    stall_s: float = 10.0
    slow_bytes_per_s: int = 1024


class UnconnectedError(OSError):
    """No connection could be made; `is_late` when it was waited for in vain."""

    def __init__(self, reason: str, *, is_late: bool) -> None:
        super().__init__(reason)
        self.is_late = is_late


class Watch:
    """The limits under which the current exchange of one connection runs."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.begin(Deadline.after(timing.stall_s))

    def begin(self, deadline: Deadline) -> None:
        """Start a new exchange, which must end by `deadline`."""
        self._deadline = deadline
        self._begin_window()

    def arm(self, sock: socket.socket) -> None:
        """Bound the next send or receive. Errors: `TimeoutError` when there is no time left."""
        elapsed_s = time.monotonic() - self._window_started
        if elapsed_s >= self.timing.stall_s:
            if self._window_bytes < elapsed_s * self.timing.slow_bytes_per_s:
                raise TimeoutError(f"slower than {self.timing.slow_bytes_per_s} bytes/s")
            self._begin_window()
        left_s = self._deadline.remaining_s
        if left_s <= 0:
            raise TimeoutError("the deadline has passed")
        sock.settimeout(min(self.timing.stall_s, left_s))

    def count(self, received_bytes: int) -> None:
        """Take note of what arrived."""
        self._window_bytes += received_bytes

    def send(self, sock: socket.socket, data: Any) -> None:
        """Send all of `data`, however little the other side takes at a time: its pace is judged by what it says."""
        left = memoryview(data).cast("B")
        while left:
            self._begin_window()
            self.arm(sock)
            left = left[sock.send(left) :]

    def open_socket(
        self, resolver: Resolver, host: str, port: int, source: str = ""
    ) -> socket.socket:
        """Connect to the first address of `host` that answers. Errors: `OSError`, `TimeoutError`."""
        budget = Deadline.after(min(self.timing.connect_s, self._deadline.remaining_s))
        last = OSError(f"{host} has no address")
        addresses = resolver.addresses(host, port, budget)
        for number, (family, address) in enumerate(addresses):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                # an address that is silent leaves the others their share of the time
                sock.settimeout(max(budget.remaining_s / (len(addresses) - number), 0.001))
                if source:
                    sock.bind((source, 0))
                sock.connect(address)
                self.arm(sock)
            except OSError as error:
                sock.close()
                last = error
                continue
            return sock
        raise last

    def _begin_window(self) -> None:
        self._window_started = time.monotonic()
        self._window_bytes = 0


class _WatchedReader(io.RawIOBase):
    """The receiving side of a socket, each receive armed by its watch."""

    def __init__(self, sock: socket.socket, watch: Watch) -> None:
        # by `makefile`, which counts as a user: the library closes its own end early when the server will
        self._raw = sock.makefile("rb", buffering=0)
        self._sock = sock
        self._watch = watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        self._watch.arm(self._sock)
        received = self._raw.readinto(buffer)
        self._watch.count(received or 0)
        return received

    def close(self) -> None:
        self._raw.close()
        super().close()


def _open_response(
    watch: Watch, sock: socket.socket, method: str | None
) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(sock, method=method)
    response.fp.close()
    response.fp = io.BufferedReader(_WatchedReader(sock, watch), _BUFFER_BYTES)
    return response


class Connection(http.client.HTTPConnection):
    """A plain connection to a host."""

    def __init__(self, host: str, port: int, timing: Timing, resolver: Resolver) -> None:
        super().__init__(host, port)
        self.watch = Watch(timing)
        # Two of the three places where the library touches its socket; the third is `send`.
        self._create_connection = lambda address, *_: self.watch.open_socket(resolver, *address)
        self.response_class = lambda sock, method=None: _open_response(self.watch, sock, method)  # type: ignore[assignment]

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self.watch.send(self.sock, data)


def connection_for_one(url: str, timing: Timing, deadline: Deadline) -> Connection:
    """A plain connection to the host of `url` for one exchange, its connecting included, that ends by `deadline`."""
    parts = urlsplit(url)
    connection = Connection(parts.hostname or "", parts.port or 80, timing, Resolver())
    connection.watch.begin(deadline)
    return connection
