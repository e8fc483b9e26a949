"""`cvm repo serve`: repositories over plain HTTP, as any static web server would export them.

One thread per connection, kept alive; a bounded number of them; every wait has an end. Names are checked by pattern
before anything touches the disk, and what is served are regular files below a repository's storage, or what another
store than a folder has.
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
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Protocol

from cernvm.core.errors import (
    CvmError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    TrustError,
)
from cernvm.core.log import fields
from cernvm.fs.store.opening import open_store
from cernvm.fs.store.port import ObjectStore
from cernvm.net.listening import open_listener

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 256
IDLE_TIMEOUT_S = 30.0
ROOT_MAX_AGE_S = 61  # root documents change; caches must ask again soon
DATA_MAX_AGE_S = 3 * 86400
_SEND_BYTES = 1 << 20
_PATH = re.compile(
    r"/cvmfs/(?P<name>[a-z0-9.-]+)/"
    r"(?P<file>\.cvmfs[a-z_]+|\.cvmfs_status\.json|\.cvmfsalt-[0-9a-f]{40}(?:-[a-z0-9]+)?[A-Z]?"
    r"|data/[0-9a-f]{2}/[0-9a-f]{30,62}(?:-[a-z0-9]+)?[A-Z]?)"
)

Storages = Callable[[], Mapping[str, str]]
# The open store of a repository that has no location; None for an unknown one.
Opened = Callable[[str], ObjectStore | None]


class Document(Protocol):
    """What is served beside repositories."""

    @property
    def body(self) -> bytes: ...

    @property
    def content_type(self) -> str: ...

    @property
    def max_age_s(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A GET for a path that is no file of a repository; `forwarded_for` is the header of that name."""

    path: str
    address: str
    forwarded_for: str


# What else there is; `InvalidInputError` for a question that is none.
Beside = Callable[[Asked], Document | None]


class RepositoryServer(ThreadingMixIn, TCPServer):
    """An HTTP server over repositories' storage folders; `serve_forever` runs it, `shutdown` ends it.

    `storages` is asked again when a name is not known yet, so that a repository made meanwhile is served too; then
    `opened`. Whatever is neither's is asked of `beside`.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        address: str,
        port: int,
        storages: Storages,
        *,
        opened: Opened = lambda _name: None,
        beside: Beside = lambda _asked: None,
    ) -> None:
        self.beside = beside
        self._opened = opened
        self._stores: dict[str, ObjectStore] = {}
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

    def storage(self, name: str) -> Path | ObjectStore | None:
        """Where a repository lies; None for an unknown one."""
        if name not in self._known:
            self._known = self._storages()
        location = self._known.get(name)
        if location is None:
            return self._opened(name)
        if location.startswith("/"):
            return Path(location)
        # two threads may both open it; the first one's is kept
        return self._stores.get(location) or self._stores.setdefault(location, open_store(location))

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
        path = self.path.partition("?")[0]
        match = _PATH.fullmatch(path)
        try:
            storage = self.server.storage(match["name"]) if match else None
            if match is None or storage is None:
                self._answer_else(path, with_body=with_body)
                return
            if not isinstance(storage, Path):
                self._send_bytes(storage.get(match["file"]), match["file"], with_body=with_body)
                return
        except NotFoundError:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        except InvalidInputError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        except CvmError as error:
            log.warning("serve.failed", extra=fields(path=path, reason=str(error)[:300]))
            is_trust = isinstance(error, TrustError | FormatError)
            self._refuse(HTTPStatus.BAD_GATEWAY if is_trust else HTTPStatus.SERVICE_UNAVAILABLE)
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

    def _answer_else(self, path: str, *, with_body: bool) -> None:
        """What is no file of a repository."""
        asked = Asked(path, self.client_address[0], self.headers.get("X-Forwarded-For", "")[:1000])
        document = self.server.beside(asked)
        if document is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        self._send_head(len(document.body), document.content_type, document.max_age_s)
        if with_body:
            self.wfile.write(document.body)

    def _send_bytes(self, data: bytes, name: str, *, with_body: bool) -> None:
        self._send_head(len(data), "application/octet-stream", _max_age_s(name))
        if with_body:
            self.wfile.write(data)

    def _send_head(self, size: int, content_type: str, max_age_s: int) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(size))
        self.send_header("Cache-Control", f"max-age={max_age_s}")
        self.end_headers()

    def _send(self, descriptor: int, name: str, *, with_body: bool) -> None:
        size = os.fstat(descriptor).st_size
        self._send_head(size, "application/octet-stream", _max_age_s(name))
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


def _max_age_s(name: str) -> int:
    return DATA_MAX_AGE_S if name.startswith(("data/", ".cvmfsalt-")) else ROOT_MAX_AGE_S


def _send_file(connection: socket.socket, descriptor: int, size: int) -> None:
    sent = 0
    while sent < size:
        block = os.pread(descriptor, min(_SEND_BYTES, size - sent), sent)
        if not block:
            msg = "a file became shorter while it was sent"
            raise ConnectionAbortedError(msg)
        connection.sendall(block)
        sent += len(block)
