"""Objects read in parts, so that who sends them on needs no memory for the whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Protocol, Self, runtime_checkable

MAX_PART_BYTES = 4 << 20


class Parts(Protocol):
    """The bytes of one object; `close` lets go of them. Concurrency: one thread at a time."""

    @property
    def size_bytes(self) -> int: ...

    def read(self, first: int, length: int) -> bytes:
        """Up to `length` bytes from `first` on, none only at the end. Errors: those of the store."""

    def close(self) -> None: ...


@runtime_checkable
class PartedStore(Protocol):
    """A store that can give an object in parts."""

    def open(self, path: str) -> Parts:
        """The object at a path; `NotFoundError` where there is none."""


class MemoryParts:
    """An object that is small, or could not be had otherwise."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read(self, first: int, length: int) -> bytes:
        return self.data[first : first + length]

    def close(self) -> None:
        pass


class FileParts:
    """An object in an open file, which may have lost its name. Shape: `descriptor` is owned from then on."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size_bytes = os.fstat(descriptor).st_size

    @classmethod
    def at(cls, place: Path) -> Self:
        """A regular file's. Errors: `OSError`."""
        return cls(os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))

    @classmethod
    def of(cls, file: BinaryIO) -> Self:
        """Those of an open file, which may be closed then."""
        return cls(os.dup(file.fileno()))

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read(self, first: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, first)

    def close(self) -> None:
        os.close(self._descriptor)


def read_whole(parts: Parts) -> bytes:
    """All of an object."""
    blocks, at = [], 0
    while block := parts.read(at, MAX_PART_BYTES):
        blocks.append(block)
        at += len(block)
    return b"".join(blocks)
