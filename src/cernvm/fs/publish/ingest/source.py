"""Where an archive comes from: a plain file, whose stretches others can read, or a stream that was compressed or not.

What a compressed stream grows to is bounded by what was read of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from cernvm.core.errors import InvalidInputError
from cernvm.fs.publish.ingest.inflating import DAMAGES, Growth, Inflow, inflated
from cernvm.fs.publish.source import Found, changed, translate

_SKIP_BYTES = 1 << 20


class Archive(Protocol):
    """The bytes of an archive, from the first to the last.

    Shape: `found` is the plain file that they all lie in as they are, None where there is no such file; `position`
    counts the bytes that were read or left out; `growth` bounds what comes of it.
    Errors: `InvalidInputError` for an archive that is cut off, damaged, changed or grows too much.
    """

    found: Found | None
    position: int
    growth: Growth

    def read(self, size: int) -> bytes:
        """The next bytes; fewer only at the end."""

    def skip(self, size: int) -> None:
        """Leave out bytes."""

    def place_of(self, size: int) -> int | None:
        """Where in the plain file the next so many bytes are; None where they have to be read."""


class FileArchive:
    """An archive that lies in a plain file, or in a stretch of one."""

    def __init__(self, found: Found, descriptor: int, start: int, end: int) -> None:
        self.found: Found | None = found
        self.position = 0
        self.growth = Growth(os.fsdecode(found.place), end - start)
        self._place = found.place
        self._descriptor = descriptor
        self._start = start
        self._size = end - start

    def read(self, size: int) -> bytes:
        most = min(size, self._size - self.position)
        try:
            data = (
                os.pread(self._descriptor, most, self._start + self.position) if most > 0 else b""
            )
        except OSError as exc:
            raise translate(exc, self._place) from exc
        if len(data) < most:
            raise changed(self._place)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        self.position = min(self.position + size, self._size)

    def place_of(self, size: int) -> int | None:
        return self._start + self.position if size <= self._size - self.position else None


class StreamArchive:
    """An archive that can only be read from its first byte on."""

    found: Found | None = None

    def __init__(self, stream: Inflow, growth: Growth) -> None:
        self.position = 0
        self._stream = stream
        self.growth = growth

    def read(self, size: int) -> bytes:
        parts = []
        while size > 0 and (part := self._read(min(size, _SKIP_BYTES))):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def skip(self, size: int) -> None:
        while size > 0 and (part := self._read(min(size, _SKIP_BYTES))):
            size -= len(part)

    def place_of(self, size: int) -> int | None:  # noqa: ARG002  # of the port
        return None

    def _read(self, size: int) -> bytes:
        try:
            part = self._stream.read(size)
        except DAMAGES as exc:
            raise InvalidInputError(f"{self.growth.name} is cut off or damaged: {exc}") from exc
        self.position += len(part)
        self.growth.check(self.position)
        return part


@contextmanager
def open_source(path: Path) -> Iterator[tuple[Found, int]]:
    """A plain file and its descriptor; it must be the same, and as it was, when the block ends.

    Errors: `NotFoundError`, `DeniedError`, `InvalidInputError` for what is no plain file, or changed.
    """
    place = os.fsencode(path)
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise translate(exc, place) from exc
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInputError(f"{path} is no plain file", advice="give it as -, by a pipe")
        yield Found(b"", os.path.realpath(place), status), descriptor
        after = os.fstat(descriptor)
        if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            raise changed(place)
    finally:
        os.close(descriptor)


def archive_in(found: Found, descriptor: int, start: int = 0, end: int | None = None) -> Archive:
    """The archive in a stretch of an open file, unpacked by what its first bytes say."""
    last = found.status.st_size if end is None else end
    growth = Growth(os.fsdecode(found.place))
    stream, is_packed = inflated(FileArchive(found, descriptor, start, last).read, growth)
    if is_packed:
        return StreamArchive(stream, growth)
    return FileArchive(found, descriptor, start, last)


def archive_from(stream: BinaryIO, name: str) -> Archive:
    """The archive that comes through a pipe."""
    growth = Growth(name)
    return StreamArchive(inflated(stream.read, growth)[0], growth)
