"""What stat, readdir and statfs say about a repository's files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cernvm.fs.format.entry import Chunk, Entry

BLOCK_BYTES = 4096
_NS_PER_S = 10**9
_new = tuple.__new__

OwnerOf = Callable[[int, int], tuple[int, int]]
"""From a stored uid and gid to those that are shown."""


class Attributes(NamedTuple):
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


class ListedName(NamedTuple):
    """One name of a directory, from a listing or a look-up.

    Shape: `offset` is where a reader goes on after this name: positive, rising within a listing, and bound to the name,
    so that a listing that is read in parts stays right when the revision changes in between. `path`, `entry` and
    `chunks` are what `View.remember` needs; the inode of `attributes` may be another one's by then.
    """

    offset: int
    name: bytes
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


def attributes_of(
    inode: int, entry: Entry, target: bytes | None = None, owner_of: OwnerOf | None = None
) -> Attributes:
    """What stat shows of an entry; `target` is a symlink's target as readlink gives it."""
    mode, size, rdev = entry.mode, entry.size, 0
    if target is not None:
        size = len(target)
    elif entry.is_device:
        size, rdev = 0, size
    uid, gid = entry.uid, entry.gid
    if owner_of is not None:
        uid, gid = owner_of(uid, gid)
    mtime_ns = entry.mtime_s * _NS_PER_S + (entry.mtime_ns or 0)
    # past the named tuple's own `__new__`, which takes twice as long, and this is done for every name
    return _new(Attributes, (inode, mode, size, entry.link_count or 1, uid, gid, rdev, mtime_ns))
