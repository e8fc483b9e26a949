"""Extended attributes as a catalog stores them: one blob, at most 255 attributes of 255 bytes each.

Shape: byte version (1), byte count; per attribute byte key length, byte value length, key, value; sorted by key.
Source: docs/formats/repository.md, "Extended attributes".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cernvm.core.errors import CatalogFormatError, InvalidInputError

MAX_BYTES = 255
_VERSION = 1


def fits(key: bytes, value: bytes) -> bool:
    """Whether the format can hold this attribute."""
    return 0 < len(key) <= MAX_BYTES and len(value) <= MAX_BYTES


def format_xattrs(xattrs: Mapping[bytes, bytes]) -> bytes:
    """The blob; `InvalidInputError` where the format cannot hold it (see `fits`)."""
    if len(xattrs) > MAX_BYTES or not all(fits(key, value) for key, value in xattrs.items()):
        raise InvalidInputError("the format holds 255 attributes of at most 255 bytes")
    parts = [bytes((_VERSION, len(xattrs)))]
    for key in sorted(xattrs):
        parts += (bytes((len(key), len(xattrs[key]))), key, xattrs[key])
    return b"".join(parts)


def parse_xattrs(blob: bytes) -> Mapping[bytes, bytes]:
    """The attributes, sorted by key; `CatalogFormatError` for anything else."""
    if len(blob) < 2 or blob[0] != _VERSION:
        raise CatalogFormatError("unknown version", where="xattr")
    found: dict[bytes, bytes] = {}
    at = 2
    for _ in range(blob[1]):
        if at + 2 > len(blob):
            raise CatalogFormatError("cut off", where="xattr")
        middle = at + 2 + blob[at]
        end = middle + blob[at + 1]
        key, value = blob[at + 2 : middle], blob[middle:end]
        if end > len(blob) or not key or b"\0" in key or key in found:
            raise CatalogFormatError("damaged", where="xattr")
        found[key] = value
        at = end
    if at != len(blob):
        raise CatalogFormatError("bytes follow the last attribute", where="xattr")
    return MappingProxyType(dict(sorted(found.items())))
