"""`cvm repo serve`: repositories over plain HTTP, as any static web server would export them.

One thread per connection, kept alive; a bounded number of them; every wait has an end. Names are checked by pattern
before anything touches the disk, and what is served are regular files below a repository's storage.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from cernvm.core.log import fields
from cernvm.net.listening import open_listener

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 256
IDLE_TIMEOUT_S = 30.0
ROOT_MAX_AGE_S = 61  # root documents change; caches must ask again soon
DATA_MAX_AGE_S = 3 * 86400
_SEND_BYTES = 1 << 20
_PATH = re.compile(
    r"/cvmfs/(?P<name>[a-z0-9.-]+)/"
    r"(?P<file>\.cvmfs[a-z_]+|data/[0-9a-f]{2}/[0-9a-f]{30,62}(?:-[a-z0-9]+)?[A-Z]?)"
)

Storages = Callable[[], Mapping[str, str]]


class RepositoryServer(ThreadingMixIn, TCPServer):
    """An HTTP server over repositories' storage folders; `serve_forever` runs it, `shutdown` ends it.

    `storages` is asked again when a name is not known yet, so that a repository made meanwhile is served too.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: str, port: int, storages: Storages) -> None:
        self._storages = storages
        self._known: Mapping[str, str] = storages()
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        listener = open_listener(address, port)
        super().__init__(listener.getsockname(), _Exchange, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    @property
    def port(self) -> int:
        """The port that was asked for, or the free one that was found."""
        return int(self.socket.getsockname()[1])

    def storage(self, name: str) -> Path | None:
        """Where a repository lies; None for an unknown one."""
        if name not in self._known:
            self._known = self._storages()
        location = self._known.get(name)
        return None if location is None else Path(location)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            log.warning("serve.full", extra=fields(client=client_address[0]))
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the process may have no more threads
            self._slots.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

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

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        log.debug("serve.request", extra=fields(client=self.client_address[0], text=format % args))

    def _answer(self, *, with_body: bool) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            # a body that nobody reads would be taken for the next request
            self.close_connection = True
        match = _PATH.fullmatch(self.path.partition("?")[0])
        storage = self.server.storage(match["name"]) if match else None
        if match is None or storage is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        try:
            descriptor = os.open(
                storage / match["file"], os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
            )
        except OSError as exc:
            is_missing = exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
            self._refuse(HTTPStatus.NOT_FOUND if is_missing else HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            self._send(file.fileno(), match["file"], with_body=with_body)

    def _send(self, descriptor: int, name: str, *, with_body: bool) -> None:
        size = os.fstat(descriptor).st_size
        is_root_document = not name.startswith("data/")
        age_s = ROOT_MAX_AGE_S if is_root_document else DATA_MAX_AGE_S
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.send_header("Cache-Control", f"max-age={age_s}")
        self.end_headers()
        if not with_body:
            return
        if size <= self.wbufsize:
            self.wfile.write(os.read(descriptor, size))
            return
        self.wfile.flush()
        _send_file(self.connection, descriptor, size)

    def _refuse(self, status: HTTPStatus) -> None:
        body = f"{status.phrase}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=15")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _send_file(connection: socket.socket, descriptor: int, size: int) -> None:
    sent = 0
    while sent < size:
        block = os.pread(descriptor, min(_SEND_BYTES, size - sent), sent)
        if not block:
            msg = "a file became shorter while it was sent"
            raise ConnectionAbortedError(msg)
        connection.sendall(block)
        sent += len(block)
