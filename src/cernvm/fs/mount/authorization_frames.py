"""The frames between a client and the helper that decides who may read a protected repository.

Source: docs/formats/authorization.md
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from cernvm.core.errors import CvmError, MessageFormatError
from cernvm.net import Credentials

HEAD = struct.Struct("=II")
VERSION = 1
MAX_BODY_BYTES = 1 << 20
DEFAULT_TTL_S = 120
MAX_TTL_S = 24 * 3600

_ENVELOPE = "cvmfs_authz_v1"
_WHERE = "authorization helper"


class Kind(IntEnum):
    """What a frame is for: `msgid`."""

    HANDSHAKE = 0
    READY = 1
    VERIFY = 2
    PERMIT = 3
    QUIT = 4


class Status(IntEnum):
    """What a helper says of a request; everything but `OK` is a refusal."""

    OK = 0
    NOT_FOUND = 1
    INVALID = 2
    NOT_MEMBER = 3


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks: the user and group of a request and its process."""

    uid: int
    gid: int
    pid: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether somebody may read, for how long that holds, and what proves it to servers."""

    is_permitted: bool
    ttl_s: int = DEFAULT_TTL_S
    credentials: Credentials | None = None


def format_handshake(repository: str) -> bytes:
    """The first frame to a helper."""
    return _format(Kind.HANDSHAKE, {"fqrn": repository})


def format_verify(repository: str, membership: str, subject: Subject) -> bytes:
    """Asks whether `subject` has the membership."""
    encoded = base64.b64encode(membership.encode()).decode("ascii")
    fields = {"uid": subject.uid, "gid": subject.gid, "pid": subject.pid}
    return _format(Kind.VERIFY, {"fqrn": repository, **fields, "membership": encoded})


def format_quit(repository: str) -> bytes:
    """Asks a helper to end."""
    return _format(Kind.QUIT, {"fqrn": repository})


def parse_head(data: bytes) -> int:
    """How many bytes follow a frame's head. Errors: `MessageFormatError`."""
    version, length = HEAD.unpack(data)
    if version != VERSION or not 0 < length <= MAX_BODY_BYTES:
        raise MessageFormatError("this is no frame", where=_WHERE)
    return int(length)


def parse_ready(body: bytes) -> None:
    """Check that a helper is ready. Errors: `MessageFormatError`."""
    _parse(body, Kind.READY)


def parse_verdict(body: bytes) -> Verdict:
    """What a helper answers to `format_verify`. Errors: `MessageFormatError`."""
    row = _parse(body, Kind.PERMIT)
    status, ttl_s = row.get("status"), row.get("ttl", DEFAULT_TTL_S)
    if not _is_number(status) or not _is_number(ttl_s):
        raise MessageFormatError("status or ttl is no number", where=_WHERE)
    is_permitted = status == Status.OK
    credentials = _credentials(row) if is_permitted else None
    return Verdict(is_permitted, min(max(ttl_s, 0), MAX_TTL_S), credentials)


def _format(kind: Kind, fields: dict[str, Any]) -> bytes:
    body = json.dumps({_ENVELOPE: {"msgid": int(kind), "revision": 0, **fields}}).encode()
    return HEAD.pack(VERSION, len(body)) + body


def _parse(body: bytes, kind: Kind) -> dict[str, Any]:
    try:
        row = json.loads(body)[_ENVELOPE]
        found = row["msgid"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MessageFormatError("this is no message of a helper", where=_WHERE) from None
    if not isinstance(row, dict) or found != kind or isinstance(found, bool):
        raise MessageFormatError(f"message {kind.name.lower()} was expected", where=_WHERE)
    return row


def _credentials(row: dict[str, Any]) -> Credentials | None:
    try:
        token = base64.b64decode(row.get("bearer_token", ""), validate=True).decode("ascii")
        certificate = base64.b64decode(row.get("x509_proxy", ""), validate=True)
        # A token is a header's value, in which a file's last line end has no place.
        found = Credentials(token.strip(), certificate)
    except (CvmError, TypeError, ValueError, binascii.Error):
        raise MessageFormatError("its credentials make no sense", where=_WHERE) from None
    return found if token or certificate else None


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53
