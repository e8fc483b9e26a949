"""One HTTP connection whose every receive is bounded: by silence, by slowness and by the request's deadline."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from cernvm.core.clock import Deadline
from cernvm.net.resolve import Resolver

_BUFFER_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Timing:
    """When a host counts as dead.

    Units: `stall_s` is the longest silence, and the window in which at least `slow_bytes_per_s` must arrive.
    """

    connect_s: float = 5.0
    stall_s: float = 10.0
    slow_bytes_per_s: int = 1024


class Watch:
    """The limits under which the current exchange of one connection runs."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.begin(Deadline.after(timing.stall_s))

    def begin(self, deadline: Deadline) -> None:
        """Start a new exchange, which must end by `deadline`."""
        self._deadline = deadline
        self._window_started = time.monotonic()
        self._window_bytes = 0

    def arm(self, sock: socket.socket) -> None:
        """Bound the next send or receive. Errors: `TimeoutError` when there is no time left."""
        now = time.monotonic()
        elapsed_s = now - self._window_started
        if elapsed_s >= self.timing.stall_s:
            if self._window_bytes < elapsed_s * self.timing.slow_bytes_per_s:
                raise TimeoutError(f"slower than {self.timing.slow_bytes_per_s} bytes/s")
            self._window_started, self._window_bytes = now, 0
        left_s = self._deadline.remaining_s
        if left_s <= 0:
            raise TimeoutError("the deadline has passed")
        sock.settimeout(min(self.timing.stall_s, left_s))

    def count(self, received_bytes: int) -> None:
        """Take note of what arrived."""
        self._window_bytes += received_bytes

    def open_socket(self, resolver: Resolver, host: str, port: int) -> socket.socket:
        """Connect to the first address of `host` that answers."""
        budget = Deadline.after(min(self.timing.connect_s, self._deadline.remaining_s))
        last = OSError(f"{host} has no address")
        for family, address in resolver.addresses(host, port, budget):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(max(budget.remaining_s, 0.001))
                sock.connect(address)
                self.arm(sock)
            except OSError as error:
                sock.close()
                last = error
                continue
            return sock
        raise last


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
    """A plain connection to a host, or to a proxy (`absolute`: it wants whole URLs)."""

    def __init__(
        self, host: str, port: int, timing: Timing, resolver: Resolver, *, absolute: bool = False
    ) -> None:
        super().__init__(host, port)
        self.watch = Watch(timing)
        self._absolute = absolute
        # The two places where the library opens its socket and reads from it.
        self._create_connection = lambda address, *_: self.watch.open_socket(resolver, *address)
        self.response_class = lambda sock, method=None: _open_response(self.watch, sock, method)  # type: ignore[assignment]

    def target(self, url: str) -> str:
        """How the request line names `url`."""
        return url if self._absolute else urlsplit(url).path


class SecureConnection(http.client.HTTPSConnection):
    """A connection over TLS, its certificate checked; through a proxy when `set_tunnel` was called."""

    def __init__(
        self, host: str, port: int, timing: Timing, resolver: Resolver, context: ssl.SSLContext
    ) -> None:
        super().__init__(host, port, context=context)
        self.watch = Watch(timing)
        self._create_connection = lambda address, *_: self.watch.open_socket(resolver, *address)
        self.response_class = lambda sock, method=None: _open_response(self.watch, sock, method)  # type: ignore[assignment]

    def target(self, url: str) -> str:
        """How the request line names `url`."""
        return urlsplit(url).path
