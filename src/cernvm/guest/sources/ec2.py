"""The metadata service of EC2 and of all who imitate it: version 2 with a token, else version 1.

The service may come up later than the instance, so silence and server errors are asked again until the deadline.
Every request is cut off after `request_timeout_s`, however slowly it drips. Source: docs/formats/metadata.md.
"""

from __future__ import annotations

import http.client
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from cernvm.context.encoding import MAX_TEXT_BYTES
from cernvm.context.kinds import hostname as check_hostname
from cernvm.core.clock import Deadline
from cernvm.core.errors import ContextFormatError, HostError
from cernvm.core.retry import backoff_s
from cernvm.guest.sources.port import Found, InstanceData
from cernvm.net.connection import Connection, Timing, connection_for_one

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

    def _connect(self, deadline: Deadline) -> Connection:
        limit = self._limit(deadline)
        timing = Timing(limit.budget_s, limit.budget_s, slow_bytes_per_s=0)
        connection = connection_for_one(self.base_url, timing, limit)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            reason = f"cannot be reached: {error.strerror or error}"
            raise HostError(self.base_url, reason) from None
        return connection

    def _exchange(
        self,
        connection: Connection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        deadline: Deadline,
    ) -> tuple[int, bytes]:
        limit = self._limit(deadline)
        connection.watch.begin(limit)
        try:
            connection.request(method, f"/latest/{path}", headers=dict(headers))
            with connection.getresponse() as response:
                body = response.read(MAX_TEXT_BYTES + 1)
                is_cut = len(body) <= MAX_TEXT_BYTES and bool(response.length)
        except TimeoutError:
            reason = f"no whole answer in {limit.budget_s:.1f} s"
            raise HostError(self._url(path), reason) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"broken answer: {str(error)[:200] or type(error).__name__}"
            raise HostError(self._url(path), reason) from None
        finally:
            connection.close()
        if is_cut:
            raise HostError(self._url(path), "the answer ends too early")
        return response.status, body

    def _limit(self, deadline: Deadline) -> Deadline:
        """The end of the next step: connecting, or a request with its answer."""
        return Deadline.after(max(0.01, min(self.request_timeout_s, deadline.remaining_s)))

    def _url(self, path: str) -> str:
        return f"{self.base_url}/latest/{path}"


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
