"""Object packs: many objects in one request body, under a header that lists them.

These are the protocol's packs; those that readers fetch are `cernvm.fs.format.pack`.
Source: docs/formats/gateway.md, "Payloads".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import FormatError
from cernvm.fs.format.objects import ObjectKind

MAX_OBJECTS = 100_000
MAX_HEADER_BYTES = 100 * MAX_OBJECTS
_HEAD = re.compile(rb"V2\nS(\d{1,15})\nN(\d{1,6})\n--\n")
_LINE = re.compile(r"C ([0-9a-f]{40}(?:-[a-z0-9]+)?)([A-Z]?) (\d{1,15})")


@dataclass(frozen=True, slots=True)
class SentObject:
    """An object of a pack. Units: `size_bytes` as stored."""

    digest: Digest
    kind: ObjectKind
    size_bytes: int


def parse_pack_header(header: bytes) -> tuple[SentObject, ...]:
    """What a pack holds, in its order.

    Errors: `FormatError` for a header that is not well formed, whose sums are wrong, or that lists named files.
    """
    head = _HEAD.match(header)
    if head is None:
        raise FormatError("does not begin as a pack of version 2", where="pack header")
    try:
        lines = header[head.end() :].decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise FormatError("is not ASCII", where="pack header") from None
    if len(lines) > MAX_OBJECTS:
        raise FormatError(f"lists more than {MAX_OBJECTS} objects", where="pack header")
    objects = tuple(_parse_line(line, number) for number, line in enumerate(lines, 5))
    if len(objects) != int(head[2]) or sum(one.size_bytes for one in objects) != int(head[1]):
        raise FormatError("does not list what it announces", where="pack header")
    return objects


def format_pack_header(objects: Sequence[SentObject]) -> bytes:
    """The header of a pack that holds these objects in this order."""
    total = sum(one.size_bytes for one in objects)
    lines = [f"V2\nS{total}\nN{len(objects)}\n--\n"]
    lines += [f"C {one.digest}{one.kind.value} {one.size_bytes}\n" for one in objects]
    return "".join(lines).encode()


def header_digest(header: bytes) -> str:
    """What a payload request says of its pack: the header, and by it all that follows."""
    return hashlib.sha1(header, usedforsecurity=False).hexdigest()


def _parse_line(line: str, number: int) -> SentObject:
    match = _LINE.fullmatch(line)
    if match is None:
        raise FormatError("is not C DIGEST SIZE", where="pack header", line=number)
    try:
        return SentObject(parse_digest(match[1]), ObjectKind(match[2]), int(match[3]))
    except ValueError:
        raise FormatError("names an unknown kind", where="pack header", line=number) from None
