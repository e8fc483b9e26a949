"""Packs: many small objects in one, which any static server, proxy and CDN carries and old clients never ask for.

A pack is a head that lists its objects and then their stored bytes, back to back. What is taken out of one has the
digest that the head gives it, or does not come out: a pack is read while it arrives, and nothing of it is believed.
Source: docs/formats/packs.md, "Packs".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from cernvm.core.digest import DIGEST_BYTES, Algorithm, Digest
from cernvm.core.errors import (
    DigestMismatchError,
    FormatError,
    InvalidInputError,
    ObjectFormatError,
)
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.objects import ObjectKind

MAGIC = b"CVMPACK1"
MAX_OBJECTS = 1 << 15
MAX_OBJECT_BYTES = 4 << 20  # of an object in a pack, stored, and of its content
MAX_PACK_BYTES = 16 << 20

_HEAD = struct.Struct("<8sI")
_ROW = struct.Struct(
    "<20sBBBBII"
)  # digest, algorithm, letter, compression, 0, stored bytes, content bytes
_LETTERS = {(ord(k.value) if k.value else 0): k for k in ObjectKind}
_NUMBERS = {kind: number for number, kind in _LETTERS.items()}
_PACKED_KINDS = frozenset({ObjectKind.PLAIN, ObjectKind.PARTIAL, ObjectKind.CATALOG})


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack as catalogs and profiles refer to it. Units: `size_bytes` is the whole pack, as it is stored."""

    digest: Digest
    size_bytes: int
    object_count: int

    def __post_init__(self) -> None:
        if not 0 < self.object_count <= MAX_OBJECTS or not 0 < self.size_bytes <= MAX_PACK_BYTES:
            raise ObjectFormatError("sizes out of range", where=f"pack {self.digest}")


@dataclass(frozen=True, slots=True)
class PackedObject:
    """What a pack's head says of one object.

    Units: `stored_bytes` as they lie in pack and store; `content_bytes` once inflated, which only limits the inflating.
    """

    digest: Digest
    kind: ObjectKind
    compression: Compression
    stored_bytes: int
    content_bytes: int

    def __post_init__(self) -> None:
        if self.kind not in _PACKED_KINDS:
            raise ObjectFormatError("holds a kind of object that no pack holds", where="pack")
        if not max(self.stored_bytes, self.content_bytes) <= MAX_OBJECT_BYTES:
            raise ObjectFormatError("holds an object that is too large", where="pack")


def head_bytes(object_count: int) -> int:
    """How long the head of a pack with so many objects is."""
    return _HEAD.size + object_count * _ROW.size


def format_pack(objects: Sequence[tuple[PackedObject, bytes]]) -> bytes:
    """The pack of some objects with their stored bytes, in this order."""
    if not 0 < len(objects) <= MAX_OBJECTS:
        raise InvalidInputError(f"a pack holds 1 to {MAX_OBJECTS} objects, not {len(objects)}")
    parts = [_HEAD.pack(MAGIC, len(objects))]
    for packed, stored in objects:
        if len(stored) != packed.stored_bytes:
            raise InvalidInputError(f"{packed.digest} has {len(stored)} bytes")
        parts.append(
            _ROW.pack(
                packed.digest.raw,
                packed.digest.algorithm.flag,
                _NUMBERS[packed.kind],
                packed.compression,
                0,
                packed.stored_bytes,
                packed.content_bytes,
            )
        )
    parts += (stored for _, stored in objects)
    data = b"".join(parts)
    if len(data) > MAX_PACK_BYTES:
        raise InvalidInputError(f"a pack has at most {MAX_PACK_BYTES} bytes, not {len(data)}")
    return data


def parse_pack_head(data: bytes | bytearray | memoryview) -> tuple[PackedObject, ...] | None:
    """The objects of a pack whose first bytes are `data`; None until all of the head is there.

    Errors: `ObjectFormatError`, as soon as it can be told.
    """
    if bytes(data[: len(MAGIC)]) != MAGIC[: len(data)]:
        raise ObjectFormatError("does not begin as one", where="pack")
    if len(data) < _HEAD.size:
        return None
    _, count = _HEAD.unpack_from(data)
    if not 0 < count <= MAX_OBJECTS:
        raise ObjectFormatError(f"says it holds {count} objects", where="pack")
    end = head_bytes(count)
    if len(data) < end:
        return None
    objects = tuple(_parse_row(row) for row in _ROW.iter_unpack(data[_HEAD.size : end]))
    if end + sum(packed.stored_bytes for packed in objects) > MAX_PACK_BYTES:
        raise ObjectFormatError("is too large", where="pack")
    return objects


class PackReader:
    """Takes the objects out of one pack that arrives piece by piece.

    Holds no more than the head or one object beside what it is fed. After an error it is of no more use; what came out
    before stays good. Concurrency: one thread.
    """

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._objects: tuple[PackedObject, ...] | None = None
        self._next = 0
        self._waiting = bytearray()

    @property
    def objects(self) -> tuple[PackedObject, ...] | None:
        """All that the pack says it holds, in order, as soon as its head is there."""
        return self._objects

    def feed(self, data: bytes | bytearray | memoryview) -> list[tuple[PackedObject, bytes]]:
        """The objects, with their stored bytes, that are whole by now; each has its digest.

        Errors: `ObjectFormatError` for what is no pack or not the one that was announced, `DigestMismatchError` for
        one that lies about an object.
        """
        self._waiting += data
        if self._objects is None:
            self._objects = self._parse_head()
            if self._objects is None:
                return []
        found = []
        at = 0
        while self._next < len(self._objects):
            packed = self._objects[self._next]
            end = at + packed.stored_bytes
            if end > len(self._waiting):
                break
            stored = bytes(self._waiting[at:end])
            self._check(packed, stored)
            found.append((packed, stored))
            self._next += 1
            at = end
        del self._waiting[:at]
        if self._waiting and self._next == len(self._objects):
            raise self._wrong("bytes follow the last object")
        return found

    def finish(self) -> None:
        """State that all of the pack was fed; `ObjectFormatError` if that is not so."""
        if self._objects is None or self._next < len(self._objects):
            raise self._wrong("is cut off")

    def _parse_head(self) -> tuple[PackedObject, ...] | None:
        try:
            objects = parse_pack_head(self._waiting)
        except ObjectFormatError as error:
            raise self._wrong(error.reason) from None
        if objects is None:
            # a head says how long it is in its first bytes, so this is bounded by that
            return None
        size_bytes = head_bytes(len(objects)) + sum(packed.stored_bytes for packed in objects)
        if (len(objects), size_bytes) != (self._pack.object_count, self._pack.size_bytes):
            raise self._wrong("is not the one that was announced")
        del self._waiting[: head_bytes(len(objects))]
        return objects

    def _check(self, packed: PackedObject, stored: bytes) -> None:
        got = packed.digest.algorithm.digest(stored)
        if got != packed.digest:
            raise DigestMismatchError(
                expected=str(packed.digest), got=str(got), source=f"pack {self._pack.digest}"
            )

    def _wrong(self, reason: str) -> ObjectFormatError:
        return ObjectFormatError(reason, where=f"pack {self._pack.digest}")


def _parse_row(row: tuple[bytes, int, int, int, int, int, int]) -> PackedObject:
    raw, algorithm, letter, compression, zero, stored_bytes, content_bytes = row
    assert len(raw) == DIGEST_BYTES
    if zero or letter not in _LETTERS:
        raise ObjectFormatError("has a head that is damaged", where="pack")
    try:
        digest = Digest(Algorithm.from_flag(algorithm), raw)
        packing = Compression.from_flag(compression)
    except FormatError as error:
        raise ObjectFormatError(error.reason, where="pack") from None
    return PackedObject(digest, _LETTERS[letter], packing, stored_bytes, content_bytes)
