"""Content that is being read: behind a descriptor, or in memory."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.errors import HostError


@dataclass(frozen=True, slots=True)
class MemoryContent:
    """Content as bytes."""

    data: bytes
    path: Path | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def pread(self, offset: int, size_bytes: int) -> bytes:
        return self.data[offset : offset + size_bytes]

    def duplicate(self) -> int | None:
        return None


class Ghosts:
    """Files of this process that have lost their name and still take space, since somebody reads them."""

    def __init__(self) -> None:
        # Without a lock: the last reader lets go of a file wherever the interpreter happens to be.
        self._steps: deque[int] = deque()

    def add(self, size_bytes: int) -> None:
        """Count a file, or one less with a negative size."""
        self._steps.append(size_bytes)

    @property
    def size_bytes(self) -> int:
        """The space that they take. Concurrency: one thread at a time."""
        total = 0
        for _ in range(len(self._steps)):
            total += self._steps.popleft()
        self._steps.append(total)
        return total


class FileContent:
    """Content behind a descriptor that this object owns; it outlives the file's name."""

    __slots__ = ("__weakref__", "_file", "path", "size_bytes")

    path: Path | None

    def __init__(self, descriptor: int, path: Path, size_bytes: int) -> None:
        self._file = _OpenFile(descriptor)
        self.path = path
        self.size_bytes = size_bytes

    def pread(self, offset: int, size_bytes: int) -> bytes:
        try:
            return os.pread(self._file.descriptor, size_bytes, offset)
        except OSError as error:
            raise HostError(str(self.path), f"the cache's disk failed: {error.strerror}") from error

    def duplicate(self) -> int | None:
        try:
            return os.dup(self._file.descriptor)
        except OSError:
            return None

    @property
    def is_unlinked(self) -> bool:
        """Whether the file has lost its name, so that only this object holds its space."""
        return os.fstat(self._file.descriptor).st_nlink == 0

    def haunt(self, ghosts: Ghosts) -> None:
        """Be counted among `ghosts` for as long as somebody holds this object."""
        if self._file.ghosts is None:
            self._file.ghosts = ghosts
            self._file.ghost_bytes = self.size_bytes
            ghosts.add(self.size_bytes)


class _OpenFile:
    """A descriptor that is closed with its owner.

    Not by the owner itself: while an object's `__del__` runs, a weak reference to it still gives it away.
    """

    __slots__ = ("descriptor", "ghost_bytes", "ghosts")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.ghosts: Ghosts | None = None
        self.ghost_bytes = 0

    def __del__(self) -> None:
        # Readers in other threads hold a reference while they read, so the descriptor cannot close under them.
        os.close(self.descriptor)
        if self.ghosts is not None:
            self.ghosts.add(-self.ghost_bytes)
