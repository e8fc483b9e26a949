"""The members of a zip archive: names, modes, times and links as Info-ZIP writes them on Unix.

A time without a zone, which is all that many archives have, is taken as UTC.
Source: PKWARE's APPNOTE 6.3.10, sections 4.3 to 4.5; Info-ZIP's `extrafld.txt`.
"""

from __future__ import annotations

import calendar
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from cernvm.core.errors import InvalidInputError
from cernvm.fs.publish.ingest.inflating import Growth
from cernvm.fs.publish.ingest.member import Data, Member, clean_path, wrong_member
from cernvm.fs.publish.ingest.source import open_source

_UNIX = 3
_UTF8 = 0x800
_ENCRYPTED = 0x1
_LOCAL_HEADER_BYTES = 30
_TIMES, _OWNER = 0x5455, 0x7875
_MOST_LINK_BYTES = 4096
_DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # zipfile's word for a compression, or a version of zip, that it does not read
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
)


class Zip:
    """An open zip archive. Shape: `infos` are its members, by the name that the archive has for them."""

    def __init__(self, archive: zipfile.ZipFile, growth: Growth) -> None:
        self._archive = archive
        self._growth = growth
        self._grown = 0
        self.infos = archive.infolist()
        self._check_apart()

    def member(self, info: zipfile.ZipInfo, *, strip: int = 0) -> Member | None:
        """A member, whose content can be read until the next one is asked for; None if nothing of its path is left."""
        name = raw_name(info)
        if info.flag_bits & _ENCRYPTED:
            raise wrong_member(name, "is encrypted", "unpack it and publish the folder")
        path = clean_path(name, strip=strip)
        if path is None:
            return None
        self._grown += info.file_size
        self._growth.check(self._grown)
        mode = _mode(info)
        uid, gid = _owner(info.extra)
        member = Member(path, mode, uid=uid, gid=gid, mtime_ns=time_s(info) * 10**9)
        if stat.S_ISLNK(mode):
            member.target = self.content(info, _MOST_LINK_BYTES)
        elif stat.S_ISREG(mode):
            member.data = Data(info.file_size, self.reader(info))
        return member.checked()

    def content(self, info: zipfile.ZipInfo, most_bytes: int) -> bytes:
        """All of a small member."""
        if info.file_size > most_bytes:
            raise wrong_member(raw_name(info), f"is larger than {most_bytes} bytes")
        read = self.reader(info)
        return b"".join(iter(lambda: read(most_bytes + 1), b""))

    def reader(self, info: zipfile.ZipInfo) -> Callable[[int], bytes]:
        """What reads a member, as a file's `read` does; its errors name it."""
        stream: list[IO[bytes]] = []
        left = info.file_size

        def read(size: int) -> bytes:
            nonlocal left
            try:
                if not stream:
                    stream.append(self._archive.open(info))
                data = stream[0].read(size)
            except _DAMAGES as exc:
                raise wrong_member(raw_name(info), f"is damaged: {exc}") from exc
            left -= len(data)
            if not data and left:
                raise wrong_member(raw_name(info), "is cut off")
            if not left:
                stream[0].close()
            return data

        return lambda size: read(size) if left or not stream else b""

    def _check_apart(self) -> None:
        """Refuse members that share bytes: a small archive could hold endless ones."""
        end = 0
        for info in sorted(self.infos, key=lambda one: one.header_offset):
            if info.header_offset < end:
                raise wrong_member(raw_name(info), "shares its bytes with another one")
            end = info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size


@contextmanager
def open_zip(path: Path) -> Iterator[Zip]:
    """A zip archive in a plain file; `InvalidInputError` where it is none."""
    with open_source(path) as (found, descriptor):
        stream: BinaryIO = os.fdopen(os.dup(descriptor), "rb")
        growth = Growth(str(path), found.status.st_size)
        with stream, _opened(stream, str(path)) as archive:
            yield Zip(archive, growth)


@contextmanager
def _opened(stream: IO[bytes], name: str) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(stream)
    except _DAMAGES as exc:
        raise InvalidInputError(f"{name} is no zip archive, or damaged: {exc}") from exc
    with archive:
        yield archive


def read_zip(archive: Zip, *, strip: int = 0) -> Iterator[Member]:
    """All members, in the order of the archive's directory."""
    for info in archive.infos:
        member = archive.member(info, strip=strip)
        if member is not None:
            yield member


def raw_name(info: zipfile.ZipInfo) -> bytes:
    """A name as bytes: what Unix wrote, or else the archive's characters in UTF-8."""
    if info.flag_bits & _UTF8:
        return info.orig_filename.encode("utf-8", "surrogateescape")
    raw = info.orig_filename.encode("cp437")
    if info.create_system == _UNIX:
        return raw
    return info.orig_filename.replace("\\", "/").encode()


def _mode(info: zipfile.ZipInfo) -> int:
    mode = info.external_attr >> 16
    is_directory = raw_name(info).endswith(b"/")
    if info.create_system != _UNIX or not mode:
        return stat.S_IFDIR | 0o755 if is_directory else stat.S_IFREG | 0o644
    kind = stat.S_IFMT(mode) or stat.S_IFREG
    if is_directory:
        kind = stat.S_IFDIR
    elif kind not in (stat.S_IFREG, stat.S_IFLNK):
        raise wrong_member(raw_name(info), "is neither file, folder nor symbolic link")
    return kind | mode & 0o7777


def time_s(info: zipfile.ZipInfo) -> int:
    """When a member was last written, in seconds since the epoch."""
    for kind, data in _extras(info.extra):
        if kind == _TIMES and len(data) >= 5 and data[0] & 1:
            return int.from_bytes(data[1:5], "little", signed=True)
    try:
        return calendar.timegm((*info.date_time, 0, 0, 0))
    except ValueError:
        return 0


def _owner(extra: bytes) -> tuple[int, int]:
    for kind, data in _extras(extra):
        if kind == _OWNER and len(data) > 2 and data[0] == 1:
            size = data[1]
            uid, rest = data[2 : 2 + size], data[2 + size :]
            return int.from_bytes(uid, "little"), int.from_bytes(rest[1 : 1 + rest[0]], "little")
    return os.geteuid(), os.getegid()


def _extras(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        yield kind, extra[at + 4 : at + 4 + size]
        at += 4 + size
