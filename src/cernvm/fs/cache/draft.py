"""A file of the cache while it is written, and once it can be read."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from cernvm.core.errors import HostError, SpaceError
from cernvm.core.home import ensure_folder

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class FileContent:
    """Content behind a descriptor that this object owns; it outlives the file's name."""

    __slots__ = ("_descriptor", "path", "size_bytes")

    path: Path | None

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.path = path
        self.size_bytes = os.fstat(self._descriptor).st_size

    def pread(self, offset: int, size_bytes: int) -> bytes:
        try:
            return os.pread(self._descriptor, size_bytes, offset)
        except OSError as error:
            raise HostError(str(self.path), f"the cache's disk failed: {error.strerror}") from error

    @property
    def is_unlinked(self) -> bool:
        """Whether the file has lost its name, so that only this object holds its space."""
        return os.fstat(self._descriptor).st_nlink == 0

    def __del__(self) -> None:
        # Readers in other threads hold a reference while they read, so the descriptor cannot close under them.
        if self._descriptor >= 0:
            os.close(self._descriptor)


class _Room(Protocol):
    """What a draft needs of its cache."""

    def admit(self, name: str, content: FileContent) -> FileContent:
        """Take note of new content."""

    def make_room(self) -> None:
        """Evict because the disk is full."""


class FileDraft:
    """A file below `txn/` that becomes `target` when it is committed."""

    def __init__(self, room: _Room, name: str, path: Path, target: Path, quota_bytes: int) -> None:
        self._room = room
        self._name = name
        self._path = path
        self._target = target
        self._left_bytes = quota_bytes
        self._quota_bytes = quota_bytes
        self._descriptor = -1
        self._has_made_room = False

    def write(self, data: bytes, /) -> None:
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise SpaceError(
                f"an object is larger than the cache's quota of {self._quota_bytes} bytes",
                advice="give the cache a larger quota, --quota-mb",
            )
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
            content = FileContent(self._path)
            self._rename()
        except OSError as error:
            self.discard()
            raise self._space_error(error) from error
        content.path = self._target
        os.close(self._descriptor)
        self._descriptor = -1
        return self._room.admit(self._name, content)

    def discard(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            with suppress(FileNotFoundError):
                self._path.unlink()

    def _create(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._path, flags, 0o600)
        except FileNotFoundError:  # somebody removed the folder under the living
            ensure_folder(self._path.parent.parent, mode=0o700)
            ensure_folder(self._path.parent, mode=0o700)
            self._descriptor = os.open(self._path, flags, 0o600)

    def _rename(self) -> None:
        try:
            self._path.rename(self._target)
        except FileNotFoundError:
            self._target.parent.mkdir(mode=0o700, exist_ok=True)
            self._path.rename(self._target)

    def _give_way(self, error: OSError) -> None:
        """Make room once on a full disk; raise on anything else."""
        if error.errno not in _NO_SPACE or self._has_made_room:
            self.discard()
            raise self._space_error(error) from error
        self._has_made_room = True
        self._room.make_room()

    def _space_error(self, error: OSError) -> SpaceError:
        return SpaceError(
            f"the cache {self._target.parent.parent} cannot be written: {error.strerror}",
            advice="free some space on that disk, or move the cache with --cache",
        )
