"""A publisher's side of the protocol: one request after the other, each on a connection of its own.

What failed on the way is asked again: leases apart, every request may come twice without harm. An answer that is lost
leaves a lease which nobody holds; it runs out by itself.
"""

from __future__ import annotations

import http.client
import json
import math
import ssl
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cernvm.core.clock import Clock, Deadline, SystemClock
from cernvm.core.errors import (
    ConflictError,
    DeadlineError,
    DeniedError,
    HostError,
    InvalidInputError,
    LeaseLostError,
    UnavailableError,
)
from cernvm.fs.gateway.lease import LeasePath, PathBusyError
from cernvm.fs.gateway.object_pack import SentObject, format_pack_header, header_digest
from cernvm.fs.gateway.protocol import API_VERSION, CommitRequest
from cernvm.fs.gateway.signature import Secret
from cernvm.net.connection import Connection, Timing, connection_for_one
from cernvm.net.resolve import Resolver

_SILENCE_S = 60.0
_REQUEST_S = 120.0
_PAYLOAD_S = 3600.0
_COMMIT_SILENCE_S = 900.0
_COMMIT_S = 4 * 3600.0
_TRIES = 4
_PAUSE_S = 0.5
_MAX_ANSWER_BYTES = 8 << 20
_ADVICE = "check that the gateway runs and can be reached from here"


@dataclass(frozen=True, slots=True)
class Given:
    """A lease as its holder has it."""

    token: str
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit came to; `root` is empty where the gateway does not tell."""

    revision: int
    root: str = ""


@dataclass(frozen=True, slots=True)
class GatewayClient:
    """A gateway at `url` (`http://HOST:4929/api/v1`), asked with a key.

    Errors: `HostError`, `DeadlineError`; `DeniedError` for a key that may not; else what the gateway says.
    Concurrency: safe from several threads.
    """

    url: str
    secret: Secret
    clock: Clock = field(default_factory=SystemClock)

    def lease(self, path: LeasePath, *, hostname: str, ttl_s: int) -> Given:
        """A new lease; `PathBusyError` while somebody else has one."""
        message = {
            "path": f"{path.repository}{path.path.decode('utf-8', 'surrogateescape') or '/'}",
            "api_version": str(API_VERSION),
            "hostname": hostname,
            "ttl_s": ttl_s,
        }
        body = json.dumps(message).encode()
        answer = self._once("POST", "/leases", body, [body], _Pace())
        if answer.get("status") == "path_busy":
            raise PathBusyError(path, left_s=parse_seconds(answer.get("time_remaining")))
        answer = _checked(self.url, answer)
        token = answer.get("session_token")
        if not isinstance(token, str) or not token:
            raise HostError(self.url, "it gave no token", advice=_ADVICE)
        # one that does not tell has the original's two hours
        return Given(token, parse_seconds(answer.get("ttl_s", 7200)))

    def refresh(self, token: str) -> None:
        """Have a lease last once more for its whole time; `LeaseLostError` where it is gone."""
        self._ask("PATCH", f"/leases/{token}", token.encode())

    def cancel(self, token: str) -> None:
        """Give a lease up."""
        self._ask("DELETE", f"/leases/{token}", token.encode())

    def missing(self, token: str, paths: Sequence[str]) -> list[str]:
        """Which objects the gateway's store lacks; all of them where it cannot tell."""
        body = json.dumps({"objects": list(paths)}).encode()
        try:
            answer = self._ask("POST", f"/leases/{token}/missing", token.encode(), [body])
        except (HostError, InvalidInputError):
            return list(paths)
        known = set(paths)
        return [path for path in answer.get("missing", ()) if path in known]

    def send(self, token: str, objects: Sequence[tuple[SentObject, bytes]]) -> None:
        """Store objects."""
        header = format_pack_header([one for one, _ in objects])
        message = {
            "session_token": token,
            "payload_digest": header_digest(header),
            "header_size": str(len(header)),
            "api_version": str(API_VERSION),
        }
        body = json.dumps(message).encode()
        blocks = [body, header, *(data for _, data in objects)]
        # without the token in the address: what is signed is the message, and by its digest all of the pack
        self._ask("POST", "/payloads", body, blocks, _Pace(total_s=_PAYLOAD_S, message=len(body)))

    def commit(self, token: str, request: CommitRequest) -> Committed:
        """Have merged what was published; `ConflictError`, `LeaseLostError`."""
        message = {
            "old_root_hash": str(request.old_root),
            "new_root_hash": str(request.new_root),
            "tag_name": request.tag,
            "tag_channel": 0,
            "tag_description": request.description,
        }
        pace = _Pace(_COMMIT_SILENCE_S, _COMMIT_S)
        body = json.dumps(message).encode()
        answer = self._ask("POST", f"/leases/{token}", token.encode(), [body], pace)
        revision, root = answer.get("final_revision"), answer.get("root_hash", "")
        if not isinstance(revision, int) or not isinstance(root, str):
            raise HostError(self.url, "it does not say which revision it made", advice=_ADVICE)
        return Committed(revision, root)

    def _ask(
        self,
        method: str,
        target: str,
        signed: bytes,
        blocks: Sequence[bytes] = (),
        pace: _Pace | None = None,
    ) -> dict[str, Any]:
        """A request that may be made again."""
        for left in reversed(range(_TRIES)):
            try:
                answer = self._once(method, target, signed, blocks, pace or _Pace())
                return _checked(self.url, answer)
            except UnavailableError:
                if not left:
                    raise
            self.clock.sleep(_PAUSE_S * (_TRIES - left))
        raise AssertionError

    def _once(
        self, method: str, target: str, signed: bytes, blocks: Sequence[bytes], pace: _Pace
    ) -> dict[str, Any]:
        address = urlsplit(self.url).path.rstrip("/") + target
        headers = {
            "Authorization": self.secret.authorization(signed),
            "Content-Length": str(sum(map(len, blocks))),
            "Content-Type": "application/json",
            "Cvm-Proof": self.secret.proof(
                method, address, blocks[0] if blocks else b"", int(time.time())
            ),
        }
        if pace.message:
            headers["Message-Size"] = str(pace.message)
        deadline = Deadline.after(pace.total_s)
        connection = _connect(self.url, Timing(10.0, pace.silence_s, 0), deadline)
        try:
            # a gateway may refuse before it has read everything: its answer counts, not the broken pipe
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, address, body=_body(blocks), headers=headers)
            with connection.getresponse() as response:
                return _parse(self.url, response.status, response.read(_MAX_ANSWER_BYTES))
        except TimeoutError:
            if deadline.has_passed:
                raise DeadlineError(f"asking {self.url}", after_s=pace.total_s) from None
            raise HostError(self.url, f"silent for {pace.silence_s:g} s", advice=_ADVICE) from None
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise HostError(self.url, reason[:300], advice=_ADVICE) from error
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class _Pace:
    """How long a request may take, and how much of its body is its message, if a pack follows."""

    silence_s: float = _SILENCE_S
    total_s: float = _REQUEST_S
    message: int = 0


class _SecureConnection(Connection):
    """A connection inside TLS."""

    def connect(self) -> None:
        super().connect()
        context = ssl.create_default_context()
        self.sock = context.wrap_socket(self.sock, server_hostname=self.host)


def _connect(url: str, timing: Timing, deadline: Deadline) -> Connection:
    parts = urlsplit(url)
    if parts.scheme != "https":
        return connection_for_one(url, timing, deadline)
    connection = _SecureConnection(parts.hostname or "", parts.port or 443, timing, Resolver())
    connection.watch.begin(deadline)
    return connection


def check_url(url: str) -> str:
    """The gateway's address without a slash at its end; `InvalidInputError` for what is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidInputError(
            f"{url!r} is no gateway's address", advice="write http://HOST:4929/api/v1"
        )
    return url.rstrip("/")


def _body(blocks: Sequence[bytes]) -> Iterable[bytes] | None:
    return iter(blocks) if blocks else None


def _parse(url: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise HostError(url, f"it answered {status} and no JSON", status=status, advice=_ADVICE)
    return answer


def _checked(url: str, answer: dict[str, Any]) -> dict[str, Any]:
    if answer.get("status") == "ok":
        return answer
    reason = str(answer.get("reason", answer))[:1000]
    advice, kind = str(answer.get("advice", "")), answer.get("kind")
    if reason == "invalid_hmac" or kind == "DeniedError":
        raise DeniedError(f"the gateway {url} refuses: {reason}", advice=advice)
    if kind == "LeaseLostError" or "invalid_lease" in reason:
        raise LeaseLostError(f"the lease is lost: {reason}", advice=advice or "publish again")
    if kind in ("ConflictError", "TransactionOpenError", "ExistsError"):
        raise ConflictError(f"the gateway {url} refuses: {reason}", advice=advice)
    if kind in ("UnavailableError", "HostError", "DeadlineError", "SpaceError"):
        raise UnavailableError(f"the gateway {url} cannot: {reason}", advice=advice)
    raise InvalidInputError(f"the gateway {url} refuses: {reason}", advice=advice)


def parse_seconds(value: object) -> float:
    """A duration, as a number or as the original writes it (`1h59m3.2s`); an hour for what is none."""
    if isinstance(value, int | float) and math.isfinite(value):
        return max(1.0, float(value))
    left_s, number = 0.0, ""
    for letter in value if isinstance(value, str) else "":
        if letter.isdigit() or letter == ".":
            number += letter
        elif letter in "hms" and number.replace(".", "", 1).isdigit():
            left_s += float(number) * {"h": 3600, "m": 60, "s": 1}[letter]
            number = ""
    return left_s or 3600.0
