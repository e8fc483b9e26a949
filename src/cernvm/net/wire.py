"""One kept-alive HTTP/1.1 connection of the fetcher: requests go out, answers come in in their order.

The head of an answer is read by `head.py`, which is stricter and several times cheaper than the standard library's.
Every send and receive is bounded by a `Watch`. Concurrency: one thread at a time.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterator

from cernvm.core.clock import Deadline
from cernvm.core.errors import FormatError
from cernvm.net.connection import Timing, UnconnectedError, Watch
from cernvm.net.head import MAX_HEAD_BYTES, Head, parse_chunk_line, parse_head
from cernvm.net.resolve import Resolver

_MAX_INTERIM = 4  # answers of 1xx before the answer
_MAX_LINE_BYTES = 1024
_RECEIVE_BYTES = 64 * 1024
_LARGE_BYTES = 256 * 1024


class EndedError(OSError):
    """The other side closed the connection before anything of an answer came."""


class Wire:
    """A connection that is made when it is first used, from the address `source` where one is said."""

    def __init__(
        self,
        host: str,
        port: int,
        timing: Timing,
        resolver: Resolver,
        *,
        tls: ssl.SSLContext | None = None,
        tunnel_to: tuple[str, int] | None = None,
        source: str = "",
    ) -> None:
        self.watch = Watch(timing)
        self._source = source
        self._host, self._port = host, port
        self._resolver = resolver
        self._tls = tls
        self._tunnel_to = tunnel_to
        self._sock: socket.socket | None = None
        self._buffer = b""

    def connect(self, deadline: Deadline) -> None:
        """Open the connection, through a tunnel and over TLS where that is wanted.

        Errors: `UnconnectedError`, `OSError`, `FormatError`.
        """
        self.watch.begin(deadline)
        try:
            sock = self.watch.open_socket(self._resolver, self._host, self._port, self._source)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UnconnectedError(reason, is_late=isinstance(error, TimeoutError)) from error
        self._sock = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tunnel_to is not None:
            self._open_tunnel(*self._tunnel_to)
        if self._tls is not None:
            name = self._tunnel_to[0] if self._tunnel_to else self._host
            self.watch.arm(sock)
            self._sock = self._tls.wrap_socket(sock, server_hostname=name)

    def _open_tunnel(self, host: str, port: int) -> None:
        name = f"[{host}]" if ":" in host else host
        self.send(f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode("ascii"))
        head = self.receive_head()
        if head.status != 200 or self._buffer:
            raise FormatError(f"the proxy opens no tunnel (HTTP {head.status})")

    def send(self, data: bytes) -> None:
        """Send one request or several."""
        assert self._sock is not None, "connected before"
        self.watch.send(self._sock, data)

    def receive_head(self) -> Head:
        """The head of the next answer; those that only say that one will come are passed over.

        Errors: `EndedError`, `OSError`, `FormatError`.
        """
        for _ in range(_MAX_INTERIM + 1):
            head = parse_head(self._take_until(b"\r\n\r\n", MAX_HEAD_BYTES))
            if head.status == 101:
                raise FormatError("the server wants another protocol")
            if head.status >= 200:
                return head
        raise FormatError("the server promises an answer again and again")

    def body(self, head: Head) -> Iterator[bytes]:
        """The body that belongs to `head`, as it arrives.

        Errors: `OSError`, `FormatError`; `EOFError` when it is cut.
        """
        if head.is_chunked:
            return self._chunks()
        if head.length_bytes is None:
            return self._until_the_end()
        return self._exactly(head.length_bytes)

    def _exactly(self, left: int) -> Iterator[bytes]:
        while left > 0:
            part = self._take_some(left)
            if not part:
                raise EOFError(f"{left} bytes before its end")
            left -= len(part)
            yield part

    def _until_the_end(self) -> Iterator[bytes]:
        while part := self._take_some(_LARGE_BYTES):
            yield part

    def _chunks(self) -> Iterator[bytes]:
        while size := parse_chunk_line(self._take_until(b"\r\n", _MAX_LINE_BYTES)):
            yield from self._exactly(size)
            if self._take_until(b"\r\n", 2) != b"\r\n":
                raise FormatError("the body's chunks are broken")
        trailer_bytes = 0
        while (line := self._take_until(b"\r\n", _MAX_LINE_BYTES)) != b"\r\n":
            trailer_bytes += len(line)
            if trailer_bytes > MAX_HEAD_BYTES:
                raise FormatError("the body's trailer has no end")

    def _take_until(self, mark: bytes, limit_bytes: int) -> bytes:
        """What comes up to `mark`, which is included."""
        searched = 0
        while (at := self._buffer.find(mark, searched)) < 0:
            if len(self._buffer) >= limit_bytes:
                raise FormatError("the head of the answer has no end")
            searched = max(0, len(self._buffer) - len(mark) + 1)
            received = self._receive(_RECEIVE_BYTES)
            if not received:
                if self._buffer:
                    raise EOFError("within its head")
                raise EndedError("it closed the connection")
            self._buffer += received
        end = at + len(mark)
        if end > limit_bytes:
            raise FormatError("the head of the answer has no end")
        taken, self._buffer = self._buffer[:end], self._buffer[end:]
        return taken

    def _take_some(self, limit_bytes: int) -> bytes:
        """What is there of at most `limit_bytes`, else what comes next; nothing at the connection's end."""
        if self._buffer:
            taken, self._buffer = self._buffer[:limit_bytes], self._buffer[limit_bytes:]
            return taken
        received = self._receive(_LARGE_BYTES if limit_bytes > _RECEIVE_BYTES else _RECEIVE_BYTES)
        if len(received) > limit_bytes:
            self._buffer = received[limit_bytes:]
            return received[:limit_bytes]
        return received

    def _receive(self, most_bytes: int) -> bytes:
        assert self._sock is not None, "connected before"
        self.watch.arm(self._sock)
        received = self._sock.recv(most_bytes)
        self.watch.count(len(received))
        return received

    @property
    def is_open(self) -> bool:
        """Whether it was connected and not closed since."""
        return self._sock is not None

    @property
    def has_leftovers(self) -> bool:
        """Whether more came than was asked for."""
        return bool(self._buffer)

    @property
    def has_ended(self) -> bool:
        """Whether an idle connection has something to say, which can only be its end."""
        if self._sock is None or self._buffer:
            return True
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close it; a second time does nothing."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
