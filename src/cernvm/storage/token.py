"""The token that lets its bearer do a few things below one folder of the storage, for a while, and nothing else.

A token is `PAYLOAD.TAG`, both base64url without padding: the capability as JSON and its HMAC-SHA256 under the key that
only the storage and the job agent know.
Source: docs/formats/storage.md, "Token".
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime

from cernvm.core.errors import DeniedError, ExpiredError, InvalidInputError, SignatureError
from cernvm.storage.port import check_object_path

MAX_TOKEN_BYTES = 4096
METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Capability:
    """What a token allows.

    Shape: `prefix` is a folder (`jobs/ID/1`), or empty for everything; `not_after` is seconds since 1970;
    `max_bytes` bounds one object; `job` names for whom it was made.
    """

    prefix: str
    methods: tuple[str, ...]
    not_after: int
    max_bytes: int
    job: str = ""

    def __post_init__(self) -> None:
        if self.prefix:
            check_object_path(self.prefix)
        if not set(self.methods) <= METHODS:
            raise InvalidInputError(f"unknown methods {self.methods}")

    def check(self, method: str, path: str, *, size_bytes: int = 0) -> None:
        """Let a request pass. Errors: `DeniedError` naming what the token does not allow."""
        if method not in self.methods:
            raise DeniedError(f"this token does not allow {method}")
        if self.prefix and path != self.prefix and not path.startswith(f"{self.prefix}/"):
            raise DeniedError(f"this token is for {self.prefix}, not for {path}")
        if size_bytes > self.max_bytes:
            raise DeniedError(f"this token allows {self.max_bytes} bytes at most, not {size_bytes}")


def mint_token(key: bytes, capability: Capability) -> str:
    """The token for a capability."""
    payload = json.dumps(asdict(capability), separators=(",", ":"), sort_keys=True).encode()
    return f"{_encode(payload)}.{_encode(_tag(key, payload))}"


def read_token(key: bytes, token: str, *, now: datetime) -> Capability:
    """The capability in a token.

    Errors: `SignatureError` for whatever this key did not make; `ExpiredError` after its end.
    """
    payload, tag = _split(token)
    if not hmac.compare_digest(tag, _tag(key, payload)):
        raise SignatureError("this token was not made by this storage's key")
    values = json.loads(payload)
    known = {field.name for field in fields(Capability)}
    if not isinstance(values, dict) or set(values) != known:
        raise SignatureError("this token was made by another version")
    capability = Capability(**{**values, "methods": tuple(values["methods"])})
    if now.timestamp() > capability.not_after:
        ended = datetime.fromtimestamp(capability.not_after, UTC)
        raise ExpiredError(f"this token ended at {ended:%Y-%m-%d %H:%M:%S} UTC")
    return capability


def _split(token: str) -> tuple[bytes, bytes]:
    head, dot, tail = token.partition(".")
    if not dot or len(token) > MAX_TOKEN_BYTES:
        raise SignatureError("this is no storage token")
    try:
        return _decode(head), _decode(tail)
    except (binascii.Error, ValueError):
        raise SignatureError("this is no storage token") from None


def _tag(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, b"cernvm storage token v1\0" + payload, "sha256")


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(raw) != text:
        raise ValueError(text)  # one payload has one text
    return raw
