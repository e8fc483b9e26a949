"""`cvm repo serve`: repositories over HTTP, as any static web server would export them.

One thread per connection, kept alive; a bounded number of them; every wait has an end, and so has the time that the
head of one request may take. What is answered is decided by `cernvm.fs.publish.web`.
"""

from __future__ import annotations

import io
import logging
import socket
import ssl
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from cernvm.core.log import fields
from cernvm.fs.publish.web.answers import answer
from cernvm.fs.publish.web.failures import finding
from cernvm.fs.publish.web.found import Asked, Beside, Found, Opened, Shelves, Storages
from cernvm.net.bodies import body_bytes
from cernvm.net.bounded_server import BoundedServer

__all__ = ["Asked", "RepositoryServer"]

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 256
IDLE_TIMEOUT_S = 30.0
HEAD_TIMEOUT_S = 10.0  # from the first byte of a request to the end of its head
_SEND_BYTES = 1 << 20


class RepositoryServer(BoundedServer):
    """An HTTP server over repositories.

    Shape: the arguments are those of `Shelves`; with `tls` it speaks HTTPS.
    """

    def __init__(
        self,
        address: str,
        port: int,
        storages: Storages,
        *,
        opened: Opened = lambda _name: None,
        beside: Beside = lambda _asked: None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.shelves = Shelves(storages, opened, beside)
        self.tls = tls
        super().__init__(address, port, _Exchange, most=MAX_CONNECTIONS)

    def greeted(self, request: Any) -> Any:
        if self.tls is None:
            return request
        request.settimeout(HEAD_TIMEOUT_S)
        return self.tls.wrap_socket(request, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        log.debug(
            "serve.broken_off", extra=fields(client=client_address[0], error=sys.exc_info()[1])
        )


class _Exchange(BaseHTTPRequestHandler):
    """One connection and its requests."""

    server: RepositoryServer
    protocol_version = "HTTP/1.1"
    server_version = "cvm"
    sys_version = ""
    timeout = IDLE_TIMEOUT_S
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._head = _HeadReader(self.connection)
        self.rfile.close()
        self.rfile = io.BufferedReader(self._head)

    def handle_one_request(self) -> None:
        self._head.begin()
        super().handle_one_request()

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        log.debug("serve.request", extra=fields(client=self.client_address[0], text=format % args))

    def _answer(self, *, with_body: bool) -> None:
        self.connection.settimeout(IDLE_TIMEOUT_S)
        if body_bytes(self.headers) != 0:
            # a body that nobody reads would be taken for the next request
            self.close_connection = True
        path = self.path.partition("?")[0]
        forwarded_for = self.headers.get("X-Forwarded-For", "")[:1000]
        found = finding(self.server.shelves, Asked(path, self.client_address[0], forwarded_for))
        if isinstance(found, HTTPStatus):
            self._refuse(found)
            return
        try:
            self._send(found, with_body=with_body)
        finally:
            found.close()

    def _send(self, found: Found, *, with_body: bool) -> None:
        head = answer(found.facts, {key.lower(): value for key, value in self.headers.items()})
        self.send_response(head.status)
        for key, value in head.headers:
            self.send_header(key, value)
        self.end_headers()
        if not with_body or not head.length:
            return
        first, end = head.first, head.first + head.length
        while first < end:
            block = found.parts.read(first, min(_SEND_BYTES, end - first))
            if not block:
                msg = "a file became shorter while it was sent"
                raise ConnectionAbortedError(msg)
            self.wfile.write(block)
            first += len(block)

    def _refuse(self, status: HTTPStatus) -> None:
        body = f"{status.phrase}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=15")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _HeadReader(io.RawIOBase):
    """What a client sends; it may be silent for a while, but not slow within the head of a request."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._until: float | None = None

    def begin(self) -> None:
        """Another request is awaited."""
        self._until = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = IDLE_TIMEOUT_S if self._until is None else self._until - time.monotonic()
        if left_s <= 0:
            msg = "the head of a request took too long"
            raise TimeoutError(msg)
        self._connection.settimeout(left_s)
        size = self._connection.recv_into(buffer)
        if self._until is None:
            self._until = time.monotonic() + HEAD_TIMEOUT_S
        return size
