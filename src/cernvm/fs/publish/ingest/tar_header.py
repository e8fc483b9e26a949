"""The 512 bytes before a tar member, and the records that say more of it; pure.

Source: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Header Block"; the GNU tar manual, "Basic Tar Format" and
"Storing Sparse Files".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from cernvm.core.errors import InvalidInputError

BLOCK_BYTES = 512
_FIELDS = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_CHECKSUM = slice(148, 156)
_GNU_SPARSE = struct.Struct("12s12s")
_USTAR, _GNU = b"ustar\0", b"ustar "


@dataclass(slots=True)
class Header:
    """What a header block says. Units: `mtime_s` seconds; `size` bytes of data that follow."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_s: int
    kind: bytes
    link: bytes
    major: int
    minor: int


def parse_header(block: bytes) -> Header:
    """The header in a block; `InvalidInputError` where it is none."""
    (
        name,
        mode,
        uid,
        gid,
        size,
        mtime,
        checksum,
        kind,
        link,
        magic,
        _,
        _,
        _,
        major,
        minor,
        prefix,
    ) = _FIELDS.unpack(block)
    found = _number(checksum, "checksum")
    fixed = sum(block) - sum(block[_CHECKSUM]) + 8 * 0x20
    if found != fixed and found != fixed - 256 * _high_bytes(block):
        raise InvalidInputError("it is no tar archive, or damaged: a header has a wrong checksum")
    name = name.partition(b"\0")[0]
    if magic == _USTAR and (above := prefix.partition(b"\0")[0]):
        name = above + b"/" + name
    is_device = kind in (b"3", b"4")
    return Header(
        name=name,
        mode=_number(mode, "mode"),
        uid=_number(uid, "owner"),
        gid=_number(gid, "group"),
        size=_number(size, "size"),
        mtime_s=_number(mtime, "time"),
        kind=kind,
        link=link.partition(b"\0")[0],
        major=_number(major, "device") if is_device else 0,
        minor=_number(minor, "device") if is_device else 0,
    )


def parse_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """The keywords and values of a pax header, in order; a keyword may come several times."""
    records = []
    at = 0
    while at < len(data) and data[at : at + 1] != b"\0":
        space = data.find(b" ", at, at + 20)
        length = data[at:space]
        if space < 0 or not length.isdigit():
            raise InvalidInputError("a pax header is damaged")
        end = at + int(length)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not (space < end <= len(data) and equals and key and data[end - 1 : end] == b"\n"):
            raise InvalidInputError("a pax header is damaged")
        records.append((key, value))
        at = end
    return records


def parse_time(text: bytes) -> int:
    """A pax time, in nanoseconds, rounded down."""
    whole, _, part = text.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or len(whole) > 20 or (part and not part.isdigit()):
        raise InvalidInputError(f"{text[:40]!r} is no time of a pax header")
    fraction = int(part[:9].ljust(9, b"0")) if part else 0
    total = int(whole) * 10**9 + fraction
    if not text.startswith(b"-"):
        return total
    return -total - bool(part[9:].strip(b"0"))


def parse_size(text: bytes) -> int:
    """A number of a pax header."""
    if not text.isdigit() or len(text) > 20:
        raise InvalidInputError(f"{text[:40]!r} is no number of a pax header")
    return int(text)


Stretch = tuple[int, int]  # of a sparse file that has data: offset and size


def parse_old_sparse(block: bytes) -> tuple[list[Stretch], bool, int]:
    """Of a GNU header: the first stretches, whether a block with more follows, the whole file's size."""
    return _stretches(block[386:482]), block[482] != 0, _number(block[483:495], "size")


def parse_more_sparse(block: bytes) -> tuple[list[Stretch], bool]:
    """Of a block that follows one: stretches, and whether another one follows."""
    return _stretches(block[:504]), block[504] != 0


def check_stretches(stretches: Iterable[Stretch], *, size: int, stored: int) -> list[Stretch]:
    """The stretches, if they are in order, lie within `size` bytes and are `stored` bytes in all."""
    checked = [one for one in stretches if one[1]]
    end = 0
    for offset, length in checked:
        if offset < end or length < 0:
            raise InvalidInputError("the map of a sparse member is damaged")
        end = offset + length
    if end > size or sum(length for _, length in checked) != stored:
        raise InvalidInputError("the map of a sparse member is damaged")
    return checked


def _stretches(data: bytes) -> list[Stretch]:
    found = []
    for offset, size in _GNU_SPARSE.iter_unpack(data):
        if not offset.strip(b"\0 ") and not size.strip(b"\0 "):
            break
        found.append((_number(offset, "map"), _number(size, "map")))
    return found


def _number(text: bytes, what: str) -> int:
    """An octal number, or, with the first bit set, a binary one of which the second bit is the sign."""
    if text[0] & 0x80:
        bits = 8 * len(text) - 1
        number = int.from_bytes(text, "big") & ((1 << bits) - 1)
        return number - (1 << bits) if text[0] & 0x40 else number
    digits = text.partition(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise InvalidInputError(f"a header's {what} {text!r} is no number")
    return int(digits, 8) if digits else 0


def _high_bytes(block: bytes) -> int:
    """How many bytes old programs, which summed them up as signed ones, counted as negative."""
    rest = block[: _CHECKSUM.start] + block[_CHECKSUM.stop :]
    return sum(byte > 127 for byte in rest)
