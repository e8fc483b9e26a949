"""The members of a tar archive, in order, as they come: V7, ustar, GNU and pax, with sparse files.

Nothing is looked up and nothing is kept but the headers of one member, so a pipe will do. An archive that does not say
that it is at its end was cut off.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.entry import NO_XATTRS
from cernvm.fs.publish.ingest.member import NO_DATA, Data, Member, clean_path, wrong_member
from cernvm.fs.publish.ingest.source import Archive
from cernvm.fs.publish.ingest.sparse import SparseReader, read_map
from cernvm.fs.publish.ingest.tar_header import (
    BLOCK_BYTES,
    Header,
    Stretch,
    check_stretches,
    parse_header,
    parse_more_sparse,
    parse_old_sparse,
    parse_records,
    parse_size,
    parse_time,
)

_NOTHING = bytes(BLOCK_BYTES)
_MOST_EXTRA_BYTES = 16 << 20  # of the records and long names before one member
_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."
_FILES = (b"0", b"\0", b"7")
_KINDS = {
    b"2": stat.S_IFLNK,
    b"3": stat.S_IFCHR,
    b"4": stat.S_IFBLK,
    b"5": stat.S_IFDIR,
    b"6": stat.S_IFIFO,
}


@dataclass(slots=True)
class _Extra:
    """What was said of the next member ahead of its header. Shape: `sparse` has keywords that may come twice."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    sparse: list[tuple[bytes, bytes]] = field(default_factory=list)
    name: bytes | None = None
    link: bytes | None = None


class TarReader:
    """Reads one archive; `members` may be walked once."""

    def __init__(self, archive: Archive, *, strip: int = 0) -> None:
        self._archive = archive
        self._strip = strip
        self._globals: dict[bytes, bytes] = {}
        self._holes_bytes = 0  # of sparse members

    def members(self) -> Iterator[Member]:
        """The members; the content of one can be read until the next one is asked for.

        Errors: `InvalidInputError` for an archive that is damaged or cut off, or a member that cannot be published.
        """
        extra = _Extra()
        while (block := self._block()) != _NOTHING:
            header = parse_header(block)
            if header.size < 0:
                raise wrong_member(header.name, f"has the size {header.size}")
            if self._is_extra(header, extra):
                continue
            end = self._archive.position
            member, end = self._member(header, block, extra)
            if member is not None:
                yield member
            self._archive.skip(end - self._archive.position)
            extra = _Extra()

    def _block(self) -> bytes:
        is_first = not self._archive.position
        block = self._archive.read(BLOCK_BYTES)
        if is_first:
            _check_first(block, self._archive.growth.name)
        if len(block) < BLOCK_BYTES:
            raise InvalidInputError("the archive is cut off: it does not say that it is at its end")
        return block

    # --- what comes ahead of a member

    def _is_extra(self, header: Header, extra: _Extra) -> bool:
        if header.kind in (b"x", b"X", b"g"):
            records = parse_records(self._extra_bytes(header))
            if header.kind == b"g":
                self._globals.update(records)
            else:
                extra.values.update(records)
                extra.sparse += [one for one in records if one[0].startswith(_SPARSE)]
        elif header.kind == b"L":
            extra.name = self._extra_bytes(header).partition(b"\0")[0]
        elif header.kind == b"K":
            extra.link = self._extra_bytes(header).partition(b"\0")[0]
        elif header.kind == b"V":
            self._archive.skip(_padded(header.size))  # the name of a tape
        else:
            return False
        return True

    def _extra_bytes(self, header: Header) -> bytes:
        if header.size > _MOST_EXTRA_BYTES:
            raise wrong_member(header.name, f"is a header of {header.size} bytes")
        data = self._archive.read(_padded(header.size))
        if len(data) < header.size:
            raise InvalidInputError("the archive is cut off within a header")
        return data[: header.size]

    # --- the member

    def _member(self, header: Header, block: bytes, extra: _Extra) -> tuple[Member | None, int]:
        """The member, None where its path is stripped off, and where the next header is."""
        said = {**self._globals, **extra.values}
        said = {key: value for key, value in said.items() if value}
        name = extra.name or said.get(b"path") or header.name
        name = said.get(_SPARSE + b"name", name)
        stored = parse_size(said[b"size"]) if b"size" in said else header.size
        kind = b"5" if header.kind in _FILES and name.endswith(b"/") else header.kind
        if kind not in (*_FILES, *_KINDS, b"1", b"S", b"D"):
            raise wrong_member(name, f"is of the kind {kind!r}, which is not known")
        if kind in _KINDS or kind == b"1":
            stored = 0
        path = clean_path(name, strip=self._strip)
        data, end = self._data(kind, stored, block, extra, name)
        if path is None:
            return None, end
        member = Member(
            path,
            self._mode(header, kind),
            uid=parse_size(said[b"uid"]) if b"uid" in said else header.uid,
            gid=parse_size(said[b"gid"]) if b"gid" in said else header.gid,
            mtime_ns=parse_time(said[b"mtime"]) if b"mtime" in said else header.mtime_s * 10**9,
            device=_device(header) if kind in (b"3", b"4") else 0,
            xattrs={
                key.removeprefix(_XATTR): value
                for key, value in said.items()
                if key.startswith(_XATTR)
            }
            or NO_XATTRS,
            data=data,
        )
        link = extra.link or said.get(b"linkpath") or header.link
        if kind == b"2":
            member.target = link
        elif kind == b"1":
            member.link = clean_path(link, strip=self._strip)
            if member.link is None:
                raise wrong_member(name, "is another name of one that is stripped off")
        return member.checked(), end

    def _mode(self, header: Header, kind: bytes) -> int:
        if kind == b"D":  # of GNU's incremental archives: a directory with its listing
            return stat.S_IFDIR | header.mode & 0o7777
        return _KINDS.get(kind, stat.S_IFREG) | header.mode & 0o7777

    def _data(
        self, kind: bytes, stored: int, block: bytes, extra: _Extra, name: bytes
    ) -> tuple[Data, int]:
        """What the member holds, and where its data ends."""
        archive = self._archive
        if kind == b"S":
            stretches, has_more, size = parse_old_sparse(block)
            while has_more:
                more, has_more = parse_more_sparse(self._block())
                stretches += more
                if len(stretches) > _MOST_EXTRA_BYTES // 24:
                    raise wrong_member(name, "has a map without an end")
            end = archive.position + _padded(stored)
            return self._sparse(stretches, size, stored, name), end
        end = archive.position + _padded(stored)
        if extra.sparse and kind in _FILES:
            before = archive.position
            stretches, size = read_map(extra.sparse, archive)
            left = stored - (archive.position - before)
            return self._sparse(stretches, size, left, name), end
        if kind in _KINDS or kind in (b"1", b"D"):
            return NO_DATA, end
        return Data(stored, _Reader(archive, stored, name).read, archive.place_of(stored)), end

    def _sparse(self, stretches: list[Stretch], size: int, stored: int, name: bytes) -> Data:
        checked = check_stretches(stretches, size=size, stored=stored)
        self._holes_bytes += size - stored
        self._archive.growth.check(self._archive.position + self._holes_bytes)
        reader = _Reader(self._archive, stored, name)
        return Data(size, SparseReader(checked, size, reader.read).read)


class _Reader:
    """The stored bytes of one member."""

    def __init__(self, archive: Archive, size: int, name: bytes) -> None:
        self._archive = archive
        self._left = size
        self._name = name

    def read(self, size: int) -> bytes:
        most = min(size, self._left)
        data = self._archive.read(most) if most else b""
        if len(data) < most:
            raise wrong_member(self._name, "is cut off")
        self._left -= len(data)
        return data


def _check_first(block: bytes, name: str) -> None:
    if block.startswith(b"PK\3\4"):
        raise InvalidInputError(f"{name} is a zip, not a tar", advice="give a zip as a file")
    if not block:
        raise InvalidInputError(f"{name} is empty", advice="look at what should have written it")
    if len(block) < BLOCK_BYTES:
        raise InvalidInputError(f"{name} is no archive, or cut off after {len(block)} bytes")


def _device(header: Header) -> int:
    if not (0 <= header.major < 1 << 12 and 0 <= header.minor < 1 << 20):
        raise wrong_member(header.name, "is no device that Linux knows")
    return os.makedev(header.major, header.minor)


def _padded(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
