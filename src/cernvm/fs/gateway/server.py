"""The gateway over HTTP: the original's addresses, and a few more.

One thread per connection, a bounded number of them; whatever a client sends or does not send, its connection ends.
Nothing larger than a message is read before its signature is checked.
Source: docs/formats/gateway.md, "Requests".
"""

from __future__ import annotations

import io
import logging
import os
import select
import socket
import sys
import time
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from itertools import chain
from typing import Any
from urllib.parse import unquote_to_bytes

from cernvm.core.errors import CvmError, DeniedError, FormatError, InvalidInputError, NotFoundError
from cernvm.core.log import fields
from cernvm.fs.gateway.access import Key
from cernvm.fs.gateway.answers import Message, describe_problem, encode
from cernvm.fs.gateway.protocol import MAX_LIST_BYTES, MAX_MESSAGE_BYTES, parse_payload_request
from cernvm.fs.gateway.routes import Events, Request, Route, Signed, find_route
from cernvm.fs.gateway.service import Gateway
from cernvm.fs.gateway.signature import parse_authorization
from cernvm.net.bodies import body_bytes
from cernvm.net.bounded_server import BoundedServer

log = logging.getLogger(__name__)

DEFAULT_PORT = 4929
MAX_CONNECTIONS = 256
IDLE_TIMEOUT_S = 60.0
HEAD_TIMEOUT_S = 30.0
LEAST_RATE = 4096  # bytes a second by which a body must come, over its whole time
_DRAIN_S = 5.0


class GatewayServer(BoundedServer):
    """An HTTP server of a gateway."""

    def __init__(self, address: str, port: int, gateway: Gateway) -> None:
        self.gateway = gateway
        super().__init__(address, port, _Exchange, most=MAX_CONNECTIONS)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            log.debug("gateway.broken_off", extra=fields(client=client_address[0], error=error))
        else:  # a defect: who asked gets no answer, and may ask again
            log.error("gateway.failed", extra=fields(client=client_address[0]), exc_info=error)


class _Line(io.RawIOBase):
    """What comes from a client, until a moment that moves as it sends enough."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.until = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self.until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(min(left_s, IDLE_TIMEOUT_S))
        return self._connection.recv_into(buffer)


class _Exchange(BaseHTTPRequestHandler):
    """One connection and its requests."""

    server: GatewayServer
    protocol_version = "HTTP/1.1"
    server_version = "cvm"
    sys_version = ""
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._line = _Line(self.connection)
        self.rfile.close()
        self.rfile = io.BufferedReader(self._line, 1 << 16)

    def handle_one_request(self) -> None:
        self._line.until = time.monotonic() + HEAD_TIMEOUT_S
        super().handle_one_request()

    def do_GET(self) -> None:
        self._exchange()

    def do_POST(self) -> None:
        self._exchange()

    def do_PATCH(self) -> None:
        self._exchange()

    def do_DELETE(self) -> None:
        self._exchange()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ARG002
        # the address may hold a token
        log.debug("gateway.request", extra=fields(client=self.client_address[0]))

    def _exchange(self) -> None:
        self._left_bytes = self._body_bytes = 0
        self._waited_s = 0.0
        try:
            self._left_bytes = self._body_bytes = self._content_length()
            route, request = self._request()
            if route.stream is not None:
                self._tell(route.stream(self.server.gateway, request))
                return
            assert route.action is not None
            answer = route.action(self.server.gateway, request)
        except CvmError as error:
            answer = describe_problem(error)
            log.info(
                "gateway.refused",
                extra=fields(client=self.client_address[0], reason=str(error)[:300]),
            )
        self._answer(answer)

    def _request(self) -> tuple[Route, Request]:
        address = self.path.encode("latin-1")
        route, name = find_route(
            self.command, os.fsdecode(unquote_to_bytes(address.partition(b"?")[0]))
        )
        key = None
        if route.signed in (Signed.TOKEN, Signed.ADDRESS):
            signed = address if route.signed is Signed.ADDRESS else name.encode()
            key = self._signer(signed, is_admin=route.is_admin)
        message = self._message(route)
        if route.signed in (Signed.BODY, Signed.MESSAGE):
            key = self._signer(message, is_admin=route.is_admin)
        if key is not None:
            self._check_proof(key, message)
        request = Request(name=name, body=message, key=key)
        if route.is_payload:
            payload = parse_payload_request(message)
            # the address, whose token was signed, comes before the message
            token = name or payload.token
            request = replace(request, payload=replace(payload, token=token), read=self._read)
        return route, request

    def _message(self, route: Route) -> bytes:
        """The body, or of a payload what comes before the pack."""
        size = self._body_bytes
        if route.is_payload:
            text = self.headers.get("Message-Size", "")
            if not text.isascii() or not text.isdecimal() or len(text) > 9:
                raise FormatError("is missing, or no number", where="Message-Size")
            size = int(text)
        limit = MAX_LIST_BYTES if route.pattern.pattern.endswith("/missing") else MAX_MESSAGE_BYTES
        if size > min(limit, self._body_bytes):
            raise InvalidInputError("the message is longer than the body, or than is taken")
        blocks = []
        while size and (block := self._read(size)):
            blocks.append(block)
            size -= len(block)
        return b"".join(blocks)

    def _signer(self, signed: bytes, *, is_admin: bool) -> Key:
        wrong = DeniedError("invalid_hmac", advice="check the key file and what was signed")
        try:
            key_id, signature = parse_authorization(self.headers.get("Authorization", ""))
            key = self.server.gateway.keys.find(key_id)
        except (FormatError, NotFoundError):
            raise wrong from None
        if not key.secret.signed(signed, signature):
            raise wrong
        if is_admin and not key.is_admin:
            raise DeniedError("no_admin_key", advice="make one: cvm repo gateway add-key --admin")
        return key

    def _check_proof(self, key: Key, message: bytes) -> None:
        proof = self.headers.get("Cvm-Proof")
        if proof is None and not key.is_strict:
            return
        now_s = self.server.gateway.clock.now().timestamp()
        if not key.secret.proves(proof or "", self.command, self.path, message, now_s=now_s):
            raise DeniedError(
                "invalid_proof",
                advice="check both clocks; a strict key works with publishers of cvm only",
            )

    def _content_length(self) -> int:
        length = body_bytes(self.headers)
        if length is None:
            self.close_connection = True
            raise InvalidInputError(
                "a body needs a Content-Length, and nothing else about its length"
            )
        return length

    def _read(self, size_bytes: int) -> bytes:
        """At most so many bytes of the body; empty at its end."""
        # only the time counts that was spent waiting for the client
        got_bytes = self._body_bytes - self._left_bytes
        began = time.monotonic()
        self._line.until = began + IDLE_TIMEOUT_S + got_bytes / LEAST_RATE - self._waited_s
        block: bytes = self.rfile.read1(min(size_bytes, self._left_bytes))
        self._waited_s += time.monotonic() - began
        self._left_bytes -= len(block)
        if not block and self._left_bytes and size_bytes:
            raise ConnectionAbortedError
        return block

    def _answer(self, message: Message) -> None:
        body = encode(message)
        self.connection.settimeout(IDLE_TIMEOUT_S)
        if self._left_bytes:
            self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        # the original's publishers take what comes at once for the whole answer
        self.wfile.flush()
        if self._left_bytes:
            self._drain()

    def _tell(self, events: Events) -> None:
        """Send events for as long as somebody listens; nothing may be sent in between, the original takes it ill."""
        self.close_connection = True
        first = next(events, None)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()
        self.connection.settimeout(IDLE_TIMEOUT_S)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with closing(events):
            for event in chain([first], events):
                if event is not None:
                    self.wfile.write(b"data: " + encode(event) + b"\n\n")
                    self.wfile.flush()
                elif self._has_gone():
                    return

    def _has_gone(self) -> bool:
        """Whether the client has closed its end."""
        poller = select.poll()
        poller.register(self.connection, select.POLLIN)
        try:
            return bool(poller.poll(0)) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _drain(self) -> None:
        """Take for a moment what is still coming: a reset would overtake the answer."""
        self.connection.shutdown(socket.SHUT_WR)
        until = time.monotonic() + _DRAIN_S
        self._line.until = until
        while time.monotonic() < until and self.rfile.read1(1 << 20):
            pass
