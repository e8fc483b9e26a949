"""The metadata service of EC2 and of all who imitate it: version 2 with a token, else version 1.

The service may come up later than the instance, so silence and server errors are asked again until the deadline.
Every request is cut off after `request_timeout_s`, however slowly it drips. Source: docs/formats/metadata.md.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from cernvm.context.encoding import MAX_TEXT_BYTES
from cernvm.context.kinds import hostname as check_hostname
from cernvm.core.clock import Deadline
from cernvm.core.errors import ContextFormatError, HostError
from cernvm.core.retry import backoff_s
from cernvm.guest.sources.port import Found, InstanceData

DEFAULT_URL = "http://169.254.169.254"
_TOO_MANY = 429
_TOKEN_TTL_S = 300
_MAX_FIELD_BYTES = 1024
_RETRY_FIRST_S, _RETRY_MOST_S = 0.1, 2.0
_FIELDS = {
    "instance_id": "instance-id",
    "image_id": "ami-id",
    "instance_type": "instance-type",
    "reservation_id": "reservation-id",
    "launch_index": "ami-launch-index",
    "hostname": "local-hostname",
    "ipv4": "local-ipv4",
}


@dataclass(frozen=True, slots=True)
class Ec2Source:
    """The service at `base_url`, plain HTTP, asked directly and never through a proxy."""

    base_url: str = DEFAULT_URL
    request_timeout_s: float = 5.0
    name: str = "ec2"

    def probe(self, deadline: Deadline) -> Found | None:
        waits = backoff_s(initial_s=_RETRY_FIRST_S, maximum_s=_RETRY_MOST_S)
        while True:
            try:
                return self._ask(deadline)
            except HostError as error:
                is_refusal = 200 <= error.status < 500 and error.status != _TOO_MANY
                if is_refusal or deadline.has_passed:
                    raise
            deadline.clock.sleep(min(next(waits), deadline.remaining_s))

    def _ask(self, deadline: Deadline) -> Found | None:
        headers = self._token_header(deadline)
        if self._get("meta-data/", headers, deadline, MAX_TEXT_BYTES) is None:
            return None
        user_data = self._get("user-data", headers, deadline, MAX_TEXT_BYTES)
        values = {
            field: _clean(field, self._get(f"meta-data/{key}", headers, deadline, _MAX_FIELD_BYTES))
            for field, key in _FIELDS.items()
        }
        return Found(user_data or b"", InstanceData(**values))

    def _token_header(self, deadline: Deadline) -> dict[str, str]:
        connection = self._connect(deadline)
        header = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL_S)}
        try:
            status, body = self._exchange(connection, "PUT", "api/token", header, deadline)
        except HostError:
            return {}  # a router on the way may drop tokens: version 1 needs none
        token = body.decode("ascii", "replace")
        if status != 200 or not token.isprintable() or len(body) > _MAX_FIELD_BYTES:
            return {}
        return {"X-aws-ec2-metadata-token": token}

    def _get(
        self, path: str, headers: Mapping[str, str], deadline: Deadline, limit_bytes: int
    ) -> bytes | None:
        """The document at `path`, None where there is none."""
        status, body = self._exchange(self._connect(deadline), "GET", path, headers, deadline)
        if status == 404:
            return None
        if status != 200:
            raise HostError(self._url(path), f"answers with status {status}", status=status)
        if len(body) > limit_bytes:
            raise ContextFormatError(f"larger than {limit_bytes} bytes", where=self._url(path))
        return body

    def _connect(self, deadline: Deadline) -> http.client.HTTPConnection:
        parts = urlsplit(self.base_url)
        timeout_s = max(0.01, min(self.request_timeout_s, deadline.remaining_s))
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            reason = f"cannot be reached: {error.strerror or error}"
            raise HostError(self.base_url, reason) from None
        return connection

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        deadline: Deadline,
    ) -> tuple[int, bytes]:
        limit_s = max(0.01, min(self.request_timeout_s, deadline.remaining_s))
        # a socket's timeout begins anew with each byte; closing it is what ends a slow drip
        is_cut = threading.Event()
        watch = threading.Timer(limit_s, _cut, [connection.sock, is_cut])
        watch.daemon = True
        watch.start()
        reason = ""
        try:
            connection.request(method, f"/latest/{path}", headers=dict(headers))
            response = connection.getresponse()
            body = response.read(MAX_TEXT_BYTES + 1)
            if len(body) <= MAX_TEXT_BYTES and response.length:
                reason = "the answer ends too early"
        except TimeoutError:
            is_cut.set()
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"broken answer: {str(error)[:200] or type(error).__name__}"
        finally:
            watch.cancel()
            connection.close()
        if is_cut.is_set():
            reason = f"no whole answer in {limit_s:.1f} s"
        if reason:
            raise HostError(self._url(path), reason)
        return response.status, body

    def _url(self, path: str) -> str:
        return f"{self.base_url}/latest/{path}"


def _cut(sock: socket.socket, is_cut: threading.Event) -> None:
    is_cut.set()
    with contextlib.suppress(OSError):  # it may have just ended by itself
        sock.shutdown(socket.SHUT_RDWR)


def _clean(field: str, body: bytes | None) -> str:
    """A field's text, empty unless it is what it should be: it will be written into system files."""
    text = (body or b"").decode("ascii", "replace").strip()
    if not text.isprintable() or " " in text:
        return ""
    try:
        if field == "hostname":
            check_hostname(text)
        elif field == "ipv4":
            ipaddress.IPv4Address(text)
    except ValueError:
        return ""
    return text
