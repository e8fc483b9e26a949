"""A read-only file system held in memory: the twin of every real one."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from cernvm.fs.fuse.operations import Child, Patience
from cernvm.fs.fuse.protocol import ROOT_INODE
from cernvm.fs.fuse.values import Space


@dataclass(frozen=True, slots=True)
class MemoryNode:
    """A file, directory or symbolic link by its `mode`; `content` is a file's bytes or a link's target.

    Shape: `backing` is a file with the same content, if there is one.
    """

    mode: int
    content: bytes = b""
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    uid: int = 0
    gid: int = 0
    rdev: int = 0
    mtime_ns: int = 0
    is_uncached: bool = False
    backing: Path | None = None


@dataclass(frozen=True, slots=True)
class MemoryAttributes:
    """What stat(2) shows of a node."""

    inode: int
    mode: int
    size_bytes: int
    link_count: int
    uid: int
    gid: int
    rdev: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class MemoryChild:
    """One name of a directory."""

    name: bytes
    offset: int
    attributes: MemoryAttributes


class MemoryTree:
    """Serves a mapping of paths to nodes; folders on the way are made, all answers are at hand.

    Shape: paths are relative, `a/b`; `references` counts, by inode, what the kernel was given and has not taken back.
    """

    def __init__(self, nodes: Mapping[str, MemoryNode]) -> None:
        self._nodes: dict[int, MemoryNode] = {ROOT_INODE: MemoryNode(stat.S_IFDIR | 0o755)}
        self._names: dict[int, dict[bytes, int]] = {ROOT_INODE: {}}
        self._parents: dict[int, int] = {ROOT_INODE: ROOT_INODE}
        self.references: Counter[int] = Counter()
        self.generation: int | None = 0
        for path, node in nodes.items():
            self._add(os.fsencode(path).split(b"/"), node)

    def lookup(self, parent: int, name: bytes, patience: Patience) -> MemoryAttributes | None:  # noqa: ARG002
        inode = self._folder(parent).get(name)
        if inode is None:
            return None
        self.references[inode] += 1
        return self._shown(inode)

    def attributes(self, inode: int, patience: Patience) -> MemoryAttributes:  # noqa: ARG002
        self._node(inode)
        return self._shown(inode)

    def target(self, inode: int, patience: Patience) -> bytes:  # noqa: ARG002
        return self._node(inode).content

    def children(self, inode: int, offset: int, patience: Patience) -> Iterator[MemoryChild]:  # noqa: ARG002
        names = self._folder(inode)
        own = {b".": inode, b"..": self._parents[inode]}
        named = chain(own.items(), names.items())
        for place, (name, child) in islice(enumerate(named, 1), offset, None):
            yield MemoryChild(name, place, self._shown(child))

    def remember(self, child: Child) -> None:
        self.references[child.attributes.inode] += 1

    def read(self, inode: int, offset: int, size_bytes: int, patience: Patience) -> bytes:  # noqa: ARG002
        return self._node(inode).content[offset : offset + size_bytes]

    def is_uncached(self, inode: int) -> bool:
        return self._node(inode).is_uncached

    def backing(self, inode: int, least_bytes: int) -> int | None:
        node = self._node(inode)
        path = node.backing if len(node.content) >= least_bytes else None
        return None if path is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def xattr(self, inode: int, name: bytes, patience: Patience) -> bytes:  # noqa: ARG002
        try:
            return self._node(inode).xattrs[name]
        except KeyError:
            raise OSError(errno.ENODATA, "no such attribute") from None

    def xattr_names(self, inode: int, patience: Patience) -> Sequence[bytes]:  # noqa: ARG002
        return tuple(self._node(inode).xattrs)

    def space(self) -> Space:
        used = sum(len(node.content) for node in self._nodes.values())
        return Space(total_bytes=used, free_bytes=0, inodes=len(self._nodes))

    def forget(self, inode: int, count: int) -> None:
        self.references[inode] -= count
        if self.references[inode] <= 0:
            del self.references[inode]

    def _add(self, path: Sequence[bytes], node: MemoryNode) -> None:
        parent = ROOT_INODE
        for name in path[:-1]:
            known = self._names[parent].get(name)
            parent = known or self._place(parent, name, MemoryNode(stat.S_IFDIR | 0o755))
        self._place(parent, path[-1], node)

    def _place(self, parent: int, name: bytes, node: MemoryNode) -> int:
        inode = len(self._nodes) + 1
        self._nodes[inode] = node
        self._parents[inode] = parent
        self._names[parent][name] = inode
        if stat.S_ISDIR(node.mode):
            self._names[inode] = {}
        return inode

    def _node(self, inode: int) -> MemoryNode:
        try:
            return self._nodes[inode]
        except KeyError:
            raise OSError(errno.ESTALE, "no such inode") from None

    def _folder(self, inode: int) -> dict[bytes, int]:
        self._node(inode)
        try:
            return self._names[inode]
        except KeyError:
            raise OSError(errno.ENOTDIR, "not a directory") from None

    def _shown(self, inode: int) -> MemoryAttributes:
        node = self._nodes[inode]
        is_folder = stat.S_ISDIR(node.mode)
        links = (
            2 + sum(child in self._names for child in self._names[inode].values())
            if is_folder
            else 1
        )
        return MemoryAttributes(
            inode, node.mode, len(node.content), links, node.uid, node.gid, node.rdev, node.mtime_ns
        )
