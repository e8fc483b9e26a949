"""What stat, readdir and statfs say about a repository's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cernvm.fs.format.entry import Chunk, Entry

BLOCK_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat shows of one inode.

    Shape: `mode` is the full st_mode; `rdev` is Linux's number of a device, else 0.
    Units: bytes; nanoseconds since the epoch.
    """

    inode: int
    mode: int
    size_bytes: int
    link_count: int
    uid: int
    gid: int
    rdev: int
    mtime_ns: int

    @property
    def blocks(self) -> int:
        """How many 512-byte blocks stat shows."""
        return (self.size_bytes + 511) // 512


@dataclass(frozen=True, slots=True)
class ListedName:
    """One name of a directory.

    Shape: `offset` is where a reader goes on after this name: positive, rising within a listing, and bound to the name,
    so that a listing that is read in parts stays right when the revision changes in between. `path`, `entry` and
    `chunks` are what `View.remember` needs.
    """

    name: bytes
    offset: int
    attributes: Attributes
    path: bytes
    entry: Entry
    chunks: Sequence[Chunk] = ()


@dataclass(frozen=True, slots=True)
class FileSystemSize:
    """What df shows: the cache's quota as the size, what it holds as used, and the repository's files."""

    total_bytes: int
    free_bytes: int
    files: int


def attributes_of(inode: int, entry: Entry, target: bytes | None = None) -> Attributes:
    """What stat shows of an entry; `target` is a symlink's target as readlink gives it."""
    size_bytes = entry.size if target is None else len(target)
    return Attributes(
        inode=inode,
        mode=entry.mode,
        size_bytes=0 if entry.is_device else size_bytes,
        link_count=max(entry.link_count, 1),
        uid=entry.uid,
        gid=entry.gid,
        rdev=entry.rdev,
        mtime_ns=entry.mtime_total_ns,
    )
