"""What a file system tells the kernel about files, and for how long it may be remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

LONGEST_NAME_BYTES = 255


class Attributes(Protocol):
    """What stat(2) shows of one inode: any value with these fields.

    Units: `mtime_ns` counts from the epoch. Shape: `mode` has the file's type and permissions.
    """

    @property
    def inode(self) -> int: ...
    @property
    def mode(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def link_count(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def rdev(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Space:
    """What statfs(2) shows: room in bytes and in inodes."""

    total_bytes: int
    free_bytes: int
    inodes: int = 0
    free_inodes: int = 0
    longest_name: int = LONGEST_NAME_BYTES


@dataclass(frozen=True, slots=True)
class Validity:
    """For how many seconds the kernel may answer from its own memory: names, attributes, names that do not exist."""

    entry_s: float
    attributes_s: float
    negative_s: float
