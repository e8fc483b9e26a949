"""A file of the cache while it is written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Protocol

from cernvm.core.errors import SpaceError
from cernvm.fs.cache.checksum import Summer
from cernvm.fs.cache.content import FileContent
from cernvm.fs.cache.folder import Folder
from cernvm.fs.cache.index import Row
from cernvm.fs.cache.port import Rank

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Room(Protocol):
    """What a draft needs of its cache."""

    def admit(self, name: str, row: Row, content: FileContent) -> FileContent:
        """Take note of content that has got its place."""

    def shelter(self, content: FileContent) -> None:
        """Take note of content that could not get a place and lives as long as somebody reads it."""

    def reserve(self, size_bytes: int) -> None:
        """Count bytes that a draft has written, or given up with a negative size."""

    def make_room(self) -> None:
        """Evict because the disk is full."""


class FileDraft:
    """A file below `txn/` that becomes the content `name` when it is committed."""

    def __init__(
        self, room: Room, folder: Folder, draft: str, name: str, *, rank: Rank, quota_bytes: int
    ) -> None:
        self._room = room
        self._folder = folder
        self._draft = draft
        self._name = name
        self._rank = rank
        self._quota_bytes = quota_bytes
        self._size_bytes = 0
        self._reserved_bytes = 0
        self._summer = Summer()
        self._descriptor = -1
        self._has_made_room = False

    def write(self, data: bytes, /) -> None:
        self._size_bytes += len(data)
        if 0 <= self._quota_bytes < self._size_bytes:
            raise SpaceError(
                f"an object is larger than the cache's quota of {self._quota_bytes} bytes",
                advice="give the cache a larger quota, --quota-mb",
            )
        self._summer.update(data)
        self._reserve(len(data))
        rest = memoryview(data)
        while rest:
            try:
                if self._descriptor < 0:
                    self._create()
                rest = rest[os.write(self._descriptor, rest) :]
            except OSError as error:
                self._give_way(error)

    def commit(self) -> FileContent:
        try:
            if self._descriptor < 0:
                self._create()
            content = self._folder.open_draft(self._draft, self._folder.path / self._name)
        except OSError as error:
            self.discard()
            raise self._space_error(error) from error
        self._reserve(-self._reserved_bytes)
        try:
            self._folder.commit(self._draft, self._name)
        except OSError:
            # Something that cannot be replaced stands there; the reader need not suffer from it.
            self.discard()
            self._room.shelter(content)
            return content
        os.close(self._descriptor)
        self._descriptor = -1
        row = Row(self._size_bytes, self._rank, self._summer.finish())
        return self._room.admit(self._name, row, content)

    def discard(self) -> None:
        self._reserve(-self._reserved_bytes)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._folder.discard(self._draft)

    def _reserve(self, size_bytes: int) -> None:
        if size_bytes:
            self._reserved_bytes += size_bytes
            self._room.reserve(size_bytes)

    def _create(self) -> None:
        self._descriptor = create_anywhere(self._folder, self._draft)

    def _give_way(self, error: OSError) -> None:
        """Make room once on a full disk; raise on anything else."""
        if error.errno not in _NO_SPACE or self._has_made_room:
            self.discard()
            raise self._space_error(error) from error
        self._has_made_room = True
        self._room.make_room()

    def _space_error(self, error: OSError) -> SpaceError:
        return SpaceError(
            f"the cache {self._folder.path} cannot be written: {error.strerror}",
            advice="free some space on that disk, or move the cache with --cache",
        )


def create_anywhere(folder: Folder, draft: str) -> int:
    """A new draft's descriptor, also when somebody removed the folder under the living. Errors: `OSError`."""
    try:
        return folder.create(draft)
    except FileNotFoundError:
        folder.enter()
        return folder.create(draft)


def write_whole(
    folder: Folder, draft: str, name: str, data: bytes, *, make_room: Callable[[], None]
) -> None:
    """Make small content a file in one go, evicting once on a full disk. Errors: `OSError`."""
    try:
        _write_whole(folder, draft, name, data)
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        make_room()
        _write_whole(folder, draft, name, data)


def _write_whole(folder: Folder, draft: str, name: str, data: bytes) -> None:
    descriptor = create_anywhere(folder, draft)
    try:
        written = os.write(descriptor, data)
        while written < len(data):
            written += os.write(descriptor, memoryview(data)[written:])
        folder.commit(draft, name)
    except OSError:
        folder.discard(draft)
        raise
    finally:
        os.close(descriptor)
