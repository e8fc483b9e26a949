"""The requests of the gateway's protocol as values.

The original sends numbers as text and text with any bytes in it; both are understood, and nothing else.
Source: docs/formats/gateway.md, "Requests".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import FormatError, InvalidInputError
from cernvm.core.home import check_repository_name
from cernvm.fs.gateway.lease import LeasePath, parse_lease_path
from cernvm.fs.gateway.object_pack import MAX_HEADER_BYTES

API_VERSION = 3
OLDEST_API_VERSION = 2
MAX_MESSAGE_BYTES = 64 << 10
MAX_LIST_BYTES = 4 << 20
MAX_TTL_S = 7 * 86400
MIN_TTL_S = 1
MAX_DAYS = 100_000
DEFAULT_KEEP_DAYS = 3.0
_WHERE = "request"


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """Somebody wants a lease; `ttl_s` is 0 where they did not say for how long."""

    path: LeasePath
    hostname: str
    api_version: int
    ttl_s: int = 0


@dataclass(frozen=True, slots=True)
class PayloadRequest:
    """What stands before a pack; `token` is empty where the address has it."""

    token: str
    header_digest: str
    header_bytes: int


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What was published under a lease: the difference between two roots; `tag` is empty for an automatic one."""

    old_root: Digest
    new_root: Digest
    tag: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class CollectRequest:
    """Somebody wants garbage collected; beside tagged revisions so many before the head, and those of so many days."""

    name: str
    revisions: int
    days: float
    dry_run: bool


def parse_lease_request(body: bytes) -> LeaseRequest:
    """A `POST /leases`; `FormatError` or `InvalidInputError` for what is none."""
    message = parse_object(body)
    return LeaseRequest(
        path=parse_lease_path(_text(message, "path")),
        hostname=_text(message, "hostname", "")[:255],
        api_version=_number(message, "api_version"),
        ttl_s=_number(message, "ttl_s", 0),
    )


def parse_payload_request(body: bytes) -> PayloadRequest:
    """What comes before the pack of a `POST /payloads`."""
    message = parse_object(body)
    request = PayloadRequest(
        token=_text(message, "session_token", ""),
        header_digest=_text(message, "payload_digest"),
        header_bytes=_number(message, "header_size"),
    )
    if not 0 < request.header_bytes <= MAX_HEADER_BYTES:
        raise FormatError("no pack has so long a header", where=_WHERE, field="header_size")
    return request


def parse_commit_request(body: bytes) -> CommitRequest:
    """A `POST /leases/TOKEN`."""
    message = parse_object(body)
    tag = _text(message, "tag_name", "")
    return CommitRequest(
        old_root=_root(message, "old_root_hash"),
        new_root=_root(message, "new_root_hash"),
        # the original asks for the name that it would give by itself; the time of the commit is the better one
        tag="" if tag.startswith("generic") else tag,
        description=_text(message, "tag_description", ""),
    )


def parse_collect_request(body: bytes) -> CollectRequest:
    """A `POST /gc`."""
    message = parse_object(body)
    days, dry_run = message.get("days", DEFAULT_KEEP_DAYS), message.get("dry_run", False)
    if (
        not isinstance(days, int | float)
        or not 0 <= days < MAX_DAYS
        or not isinstance(dry_run, bool)
    ):
        raise FormatError("says for how long in no number, or whether in no truth", where=_WHERE)
    revisions = _number(message, "num_revisions", 0)
    name = check_repository_name(_text(message, "repo"))
    return CollectRequest(name, max(0, revisions), float(days), dry_run)


def parse_listen_request(body: bytes) -> str:
    """The repository of a `GET /notifications/subscribe` or a `POST /notifications/publish`."""
    return check_repository_name(_text(parse_object(body), "repository"))


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; `FormatError` for anything else."""
    try:
        message = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        raise FormatError("is no JSON", where=_WHERE) from None
    if not isinstance(message, dict):
        raise FormatError("is no JSON object", where=_WHERE)
    return message


def check_version(request: LeaseRequest) -> int:
    """The version to speak with who asks; `InvalidInputError` for one that is too old."""
    if request.api_version < OLDEST_API_VERSION:
        raise InvalidInputError(
            f"version {request.api_version} of the protocol is too old",
            advice=f"use a publisher that speaks version {OLDEST_API_VERSION} or later",
        )
    return min(request.api_version, API_VERSION)


def _text(message: dict[str, Any], key: str, default: str | None = None) -> str:
    value = message.get(key, default)
    if not isinstance(value, str):
        raise FormatError("is missing, or no text", where=_WHERE, field=key)
    return value


def _number(message: dict[str, Any], key: str, default: int | None = None) -> int:
    value = message.get(key, default)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 16:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53:
        return value
    raise FormatError("is missing, or no number", where=_WHERE, field=key)


def _root(message: dict[str, Any], key: str) -> Digest:
    try:
        return parse_digest(_text(message, key).removesuffix("C"))
    except FormatError:
        raise FormatError("is missing, or no catalog's digest", where=_WHERE, field=key) from None
