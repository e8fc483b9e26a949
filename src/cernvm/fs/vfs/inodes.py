"""Inode numbers, and what stands behind those that the kernel knows.

A number is computed from the path and the content, so it is the same after a restart of the mount as long as the
content is, and another one when the content changes: pages that the kernel keeps of an inode never go stale. Where two
would coincide, which 63 bits make unlikely, the later one takes the next free number.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from cernvm.core.errors import NotFoundError
from cernvm.fs.format.catalog import PathKey, path_key
from cernvm.fs.format.entry import Chunk, Entry
from cernvm.fs.reader import Piece, Revision, pieces_of
from cernvm.fs.vfs.ledger import NOWHERE, InodeLedger, KnownInode

ROOT_INODE = 1
_MASK = (1 << 63) - 1
_FIRST_FREE = 2
_TYPE_BITS = 0o170000

Identity = tuple[int, int, bytes]
"""What tells apart inodes whose numbers coincide: half of the path's key, seed of the number, mark of the content."""


class DormantInodeError(Exception):
    """The kernel knows the inode from a process before this one: `View.awaken` has to find what stands behind it."""


@dataclass(slots=True)
class Node:
    """One inode that the kernel may ask for.

    Shape: `path` is as `Tree` has it, of the name under which it was last found.
    """

    inode: int
    path: bytes
    entry: Entry
    chunks: Sequence[Chunk]
    revision: Revision
    references: int = 0
    slot: int = NOWHERE
    pieces: tuple[Piece, ...] | None = None

    def content(self) -> tuple[Piece, ...]:
        """The objects of a regular file. Errors: as `pieces_of`."""
        if self.pieces is None:
            self.pieces = pieces_of(self.entry, self.chunks, path=self.path)
        return self.pieces

    def is_same(self, identity: Identity) -> bool:
        """Whether it stands for the path and content of `identity`."""
        return _identify(self.path, path_key(self.path), self.entry, self.chunks)[1] == identity


class InodeTable:
    """The inodes with references. Concurrency: safe from any thread."""

    def __init__(self, root: Entry, revision: Revision) -> None:
        self._nodes = {ROOT_INODE: Node(ROOT_INODE, b"", root, (), revision, 1)}
        self._lock = threading.Lock()
        self._ledger: InodeLedger | None = None
        self._dormant: dict[int, KnownInode] = {}
        self._numbered: tuple[Revision, int] | None = None  # the ledger's number of a revision
        self._aliases: dict[int, set[bytes]] = {}  # of hard links, the paths found before

    def keep_in(self, ledger: InodeLedger | None) -> None:
        """Record all references in a ledger from here on, and take over those that it has; None: no longer."""
        with self._lock:
            self._ledger, self._numbered = ledger, None
            self._dormant = {known.inode: known for known in ledger.known()} if ledger else {}

    def dormant(self, inode: int) -> KnownInode | None:
        """What a process before this one recorded of an inode that nobody has asked for since."""
        return self._dormant.get(inode)

    def awaken(
        self, known: KnownInode, entry: Entry, chunks: Sequence[Chunk], revision: Revision
    ) -> bool:
        """Take an entry for what stands behind a dormant inode; False if it is not that."""
        number, _ = _identify(known.path, path_key(known.path), entry, chunks)
        if number != known.inode:
            return False
        with self._lock:
            if self._dormant.get(number) is known:
                self._nodes[number] = Node(number, known.path, entry, chunks, revision)
                self._take_over(self._nodes[number])
            return True

    def node(self, inode: int) -> Node:
        """What stands behind a number. Errors: `NotFoundError` when the kernel has no right to know it."""
        try:
            return self._nodes[inode]
        except KeyError:
            if inode in self._dormant:
                raise DormantInodeError(inode) from None
            raise NotFoundError("inode", str(inode)) from None

    def refer(
        self,
        path: bytes,
        entry: Entry,
        chunks: Sequence[Chunk],
        revision: Revision,
        number: int = 0,
    ) -> Node:
        """The node of an entry, with one reference more; `number` is its `inode_number`."""
        inode = number or inode_number(path, path_key(path), entry, chunks)
        with self._lock:
            node = self._nodes.get(inode)
            if node is None or node.entry is not entry:
                node = self._settle(inode, path, entry, chunks, revision)
            node.references += 1
            if self._ledger is not None:
                self._record(node, self._ledger)
            return node

    def _settle(
        self, inode: int, path: bytes, entry: Entry, chunks: Sequence[Chunk], revision: Revision
    ) -> Node:
        """The node that stands for an entry, a new one if there is none, from `inode` upwards."""
        identity: Identity | None = None
        while (node := self._nodes.get(inode)) is not None:
            identity = identity or _identify(path, path_key(path), entry, chunks)[1]
            if node.is_same(identity):
                if node.path != path:
                    self._aliases.setdefault(inode, set()).add(node.path)
                node.path, node.entry, node.revision = path, entry, revision
                return node
            inode = inode + 1 if inode < _MASK else _FIRST_FREE
        node = self._nodes[inode] = Node(inode, path, entry, chunks, revision)
        if self._dormant:
            self._take_over(node)
        return node

    def renew(self, node: Node, entry: Entry, chunks: Sequence[Chunk], revision: Revision) -> None:
        """Take over an entry from another revision, if it has the same content."""
        identity = _identify(node.path, path_key(node.path), entry, chunks)[1]
        with self._lock:
            if node.is_same(identity):
                node.entry, node.revision = entry, revision

    def known_paths(self) -> list[tuple[int, bytes]]:
        """Number and path of all that the kernel knows but the root; of hard links every path that was found."""
        with self._lock:
            nodes, dormant = list(self._nodes.values()), list(self._dormant.values())
            aliases = [(inode, path) for inode, more in self._aliases.items() for path in more]
        known = [(node.inode, node.path) for node in nodes if node.inode != ROOT_INODE]
        return known + aliases + [(one.inode, one.path) for one in dormant]

    def oldest_files(self, count: int) -> list[bytes]:
        """The paths of what has been known the longest and is no directory."""
        with self._lock:
            files = (node.path for node in self._nodes.values() if not node.entry.is_directory)
            return list(islice(files, count))

    def known_folders(self) -> list[int]:
        """The numbers of the directories that the kernel knows, but the root."""
        with self._lock:
            nodes = list(self._nodes.values())
            dormant = [one.inode for one in self._dormant.values() if one.is_directory]
        folders = [node.inode for node in nodes if node.entry.is_directory]
        return [inode for inode in folders if inode != ROOT_INODE] + dormant

    def forget(self, inode: int, count: int) -> None:
        """Give back references; without any the number is free."""
        with self._lock:
            node = self._nodes.get(inode)
            if node is None:
                self._forget_dormant(inode, count)
            elif inode != ROOT_INODE:
                node.references -= count
                if node.references <= 0:
                    del self._nodes[inode]
                    self._aliases.pop(inode, None)
                if self._ledger is not None:
                    self._ledger.count(node.slot, max(0, node.references))

    def _record(self, node: Node, ledger: InodeLedger) -> None:
        if node.slot == NOWHERE:
            if self._numbered is None or self._numbered[0] is not node.revision:
                number = ledger.revision(str(node.revision.root_catalog))
                self._numbered = (node.revision, number)
            node.slot = ledger.add(
                node.inode,
                node.path,
                self._numbered[1],
                node.references,
                is_directory=node.entry.is_directory,
            )
        else:
            ledger.count(node.slot, node.references)

    def _take_over(self, node: Node) -> None:
        known = self._dormant.pop(node.inode, None)
        if known is not None:
            node.references, node.slot = known.references, known.slot

    def _forget_dormant(self, inode: int, count: int) -> None:
        known = self._dormant.pop(inode, None)
        if known is None:
            return
        references = max(0, known.references - count)
        if references:
            self._dormant[inode] = replace(known, references=references)
        if self._ledger is not None:
            self._ledger.count(known.slot, references)

    def __len__(self) -> int:
        return len(self._nodes)


def inode_number(path: bytes, key: PathKey, entry: Entry, chunks: Sequence[Chunk]) -> int:
    """The number that an entry has unless another one took it first; `key` is the path's."""
    return _identify(path, key, entry, chunks)[0] if path else ROOT_INODE


def _identify(
    path: bytes, key: PathKey, entry: Entry, chunks: Sequence[Chunk]
) -> tuple[int, Identity]:
    """The number, from path (or hard link group) and content, and what tells its like apart."""
    if entry.hardlink_group:  # a group lies within one directory
        parent = path.rpartition(b"/")[0]
        key = path_key(b"%b/\0%d" % (parent, entry.hardlink_group))
    mark = b""
    if entry.is_symlink:
        mark = entry.symlink
        seed = path_key(mark)[0]
    else:
        seed = (entry.mode & _TYPE_BITS) + entry.compression
        if entry.digest is not None:
            mark = entry.digest.raw
            seed ^= int.from_bytes(mark[:8], "little")
        elif entry.is_device:
            seed += entry.rdev
    if chunks:
        whole = hashlib.sha256(mark)
        for chunk in sorted(chunks):
            seed ^= int.from_bytes(chunk.digest.raw[:8], "little") + chunk.offset
            whole.update(b"%d %b" % (chunk.offset, chunk.digest.raw))
        mark = whole.digest()
    number = (key[0] ^ seed) & _MASK
    return max(_FIRST_FREE, number), (key[1], seed, mark)
