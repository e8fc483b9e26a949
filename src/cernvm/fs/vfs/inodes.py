"""Inode numbers, and what stands behind those that the kernel knows.

A number is computed from the path and the content, so it is the same after a restart of the mount as long as the
content is, and another one when the content changes: pages that the kernel keeps of an inode never go stale. Where two
would coincide, which 63 bits make unlikely, the later one takes the next free number.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from cernvm.core.errors import NotFoundError
from cernvm.fs.format.catalog import path_key
from cernvm.fs.format.entry import Chunk, Entry, EntryKind
from cernvm.fs.reader import Piece, Revision, pieces_of

ROOT_INODE = 1
_MASK = (1 << 63) - 1
_FIRST_FREE = 2


@dataclass(slots=True)
class Node:
    """One inode that the kernel may ask for.

    Shape: `path` is as `Tree` has it; `identity` tells apart what would have the same number.
    """

    inode: int
    path: bytes
    entry: Entry
    chunks: Sequence[Chunk]
    revision: Revision
    identity: tuple[int, int, int]
    references: int = 0
    pieces: tuple[Piece, ...] | None = None

    def content(self) -> tuple[Piece, ...]:
        """The objects of a regular file. Errors: as `pieces_of`."""
        if self.pieces is None:
            where = self.path.decode("utf-8", "replace")
            self.pieces = pieces_of(self.entry, self.chunks, where=where)
        return self.pieces


class InodeTable:
    """The inodes with references. Concurrency: safe from any thread."""

    def __init__(self, root: Entry, revision: Revision) -> None:
        identity = _identity(b"", root, ())
        self._nodes = {ROOT_INODE: Node(ROOT_INODE, b"", root, (), revision, identity, 1)}
        self._lock = threading.Lock()

    def node(self, inode: int) -> Node:
        """What stands behind a number. Errors: `NotFoundError` when the kernel has no right to know it."""
        try:
            return self._nodes[inode]
        except KeyError:
            raise NotFoundError("inode", str(inode)) from None

    def refer(self, path: bytes, entry: Entry, chunks: Sequence[Chunk], revision: Revision) -> Node:
        """The node of an entry, with one reference more."""
        identity = _identity(path, entry, chunks)
        with self._lock:
            inode = _number(identity)
            while (node := self._nodes.get(inode)) is not None and node.identity != identity:
                inode = inode + 1 if inode < _MASK else _FIRST_FREE
            if node is None:
                node = Node(inode, path, entry, chunks, revision, identity)
                self._nodes[inode] = node
            else:
                node.path, node.entry, node.revision = path, entry, revision
            node.references += 1
            return node

    def renew(self, node: Node, entry: Entry, chunks: Sequence[Chunk], revision: Revision) -> None:
        """Take over an entry from another revision, if it has the same content."""
        with self._lock:
            if node.identity == _identity(node.path, entry, chunks):
                node.entry, node.revision = entry, revision

    def forget(self, inode: int, count: int) -> None:
        """Give back references; without any the number is free."""
        with self._lock:
            node = self._nodes.get(inode)
            if node is None or inode == ROOT_INODE:
                return
            node.references -= count
            if node.references <= 0:
                del self._nodes[inode]

    def __len__(self) -> int:
        return len(self._nodes)


def inode_number(path: bytes, entry: Entry, chunks: Sequence[Chunk]) -> int:
    """The number that an entry has unless another one took it first."""
    return ROOT_INODE if not path else _number(_identity(path, entry, chunks))


def _identity(path: bytes, entry: Entry, chunks: Sequence[Chunk]) -> tuple[int, int, int]:
    """Key of the path, or of the hard link group, and a mark of the content."""
    if entry.hardlink_group:  # a group lies within one directory
        parent = path.rpartition(b"/")[0]
        path = b"%b/\0%d" % (parent, entry.hardlink_group)
    first, second = path_key(path)
    return first, second, _content_mark(entry, chunks)


def _content_mark(entry: Entry, chunks: Sequence[Chunk]) -> int:
    """A number that differs where content, target or type differ."""
    if entry.kind is EntryKind.SYMLINK:
        return path_key(entry.symlink)[0]
    mark = stat.S_IFMT(entry.mode) + entry.rdev + entry.compression
    if entry.digest is not None:
        mark ^= int.from_bytes(entry.digest.raw[:8], "little")
    for chunk in chunks:
        mark ^= int.from_bytes(chunk.digest.raw[:8], "little") + chunk.offset
    return mark


def _number(identity: tuple[int, int, int]) -> int:
    return max((identity[0] ^ identity[2]) & _MASK, _FIRST_FREE)
