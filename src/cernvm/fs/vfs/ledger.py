"""Which inodes the kernel knows, in memory that outlives the process: who serves after it goes on from there.

The memory is a nameless file that the mount's holder keeps open. A record is written before the kernel hears of its
inode, its count last, so that one cut short by a kill counts nothing; at worst an inode is remembered too long.
Source: docs/formats/hand-over.md
"""

from __future__ import annotations

import mmap
import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

NOWHERE = -1
"""The slot of an inode for which there was no room: it is not remembered."""

_RECORD = struct.Struct(
    "=IHHQI?3x"
)  # size, length of the path, revision, inode, references, directory
_REFERENCES = struct.Struct("=I")
_REFERENCES_AT = 16
_GRAIN_BYTES = 16
_FIRST_BYTES = 64 * 1024
_LARGEST_PATH_BYTES = 0xFFFF
_MOST_REVISIONS = 0xFFFF


@dataclass(frozen=True, slots=True)
class KnownInode:
    """One inode that the kernel may ask for; `root_catalog` names a revision that has it at `path`."""

    slot: int
    inode: int
    references: int
    path: bytes
    root_catalog: str
    is_directory: bool


class InodeLedger:
    """Records of the inodes with references. Concurrency: the caller's lock holds for all verbs but `known`.

    Shape: records follow each other from the start, each of a size that stays; a record of inode 0 is no inode but
    names the root catalog to which later records refer by its number.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("cvm-inodes") if descriptor is None else descriptor
        if os.fstat(self.descriptor).st_size == 0:
            os.posix_fallocate(self.descriptor, 0, _FIRST_BYTES)
        self._memory = mmap.mmap(self.descriptor, 0)
        self._free: dict[int, list[int]] = defaultdict(list)
        self._revisions: dict[str, int] = {}
        self._end = 0
        self._known = self._scan()

    def known(self) -> list[KnownInode]:
        """What was recorded when this ledger was opened."""
        return self._known

    def revision(self, root_catalog: str) -> int:
        """The number under which a revision is recorded, for `add`."""
        number = self._revisions.get(root_catalog)
        if number is None:
            number = self._revisions[root_catalog] = len(self._revisions)
            if number < _MOST_REVISIONS:
                self.add(0, root_catalog.encode(), number, 1)
        return number

    def add(
        self,
        inode: int,
        path: bytes,
        revision: int,
        references: int,
        *,
        is_directory: bool = False,
    ) -> int:
        """Record an inode; returns its slot, `NOWHERE` when there is no room for it."""
        length = len(path)
        if revision >= _MOST_REVISIONS or length > _LARGEST_PATH_BYTES:
            return NOWHERE
        size_bytes = (_RECORD.size + length + _GRAIN_BYTES - 1) & -_GRAIN_BYTES
        slot = self._room(size_bytes)
        if slot != NOWHERE:
            start = slot + _RECORD.size
            self._memory[start : start + length] = path
            _RECORD.pack_into(
                self._memory, slot, size_bytes, length, revision, inode, 0, is_directory
            )
            _REFERENCES.pack_into(self._memory, slot + _REFERENCES_AT, references)
        return slot

    def count(self, slot: int, references: int) -> None:
        """Record how many references the kernel has now; with none, the slot is free for another inode."""
        if slot == NOWHERE:
            return
        _REFERENCES.pack_into(self._memory, slot + _REFERENCES_AT, references)
        if not references:
            self._free[_RECORD.unpack_from(self._memory, slot)[0]].append(slot)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        os.close(self.descriptor)

    def _room(self, size_bytes: int) -> int:
        free = self._free.get(size_bytes)
        if free:
            return free.pop()
        slot = self._end
        if slot + size_bytes + _RECORD.size > len(self._memory):
            try:
                # allocated before it is used: writing to memory that is not there would end the process
                os.posix_fallocate(self.descriptor, 0, 2 * len(self._memory))
                self._memory.resize(2 * len(self._memory))
            except OSError:
                return NOWHERE
        self._end += size_bytes
        return slot

    def _scan(self) -> list[KnownInode]:
        roots: dict[int, str] = {}
        rows: list[tuple[int, int, int, bytes, int, bool]] = []
        for slot, references, inode, path, revision, is_directory in self._records():
            if inode == 0:
                roots[revision] = path.decode("ascii", "replace")
            else:
                rows.append((slot, inode, references, path, revision, is_directory))
        self._revisions = {root: number for number, root in roots.items()}
        # a revision's name may stand behind what refers to it, which took a place that was free
        return [KnownInode(*row[:4], roots[row[4]], row[5]) for row in rows if row[4] in roots]

    def _records(self) -> Iterator[tuple[int, int, int, bytes, int, bool]]:
        """(slot, references, inode, path, revision, whether it is a directory) of all that counts; the rest is free."""
        memory, slot = self._memory, 0
        while slot + _RECORD.size <= len(memory):
            size_bytes, length, revision, inode, references, is_directory = _RECORD.unpack_from(
                memory, slot
            )
            if size_bytes < _RECORD.size or slot + size_bytes > len(memory):
                break
            if references:
                path = bytes(memory[slot + _RECORD.size : slot + _RECORD.size + length])
                yield slot, references, inode, path, revision, is_directory
            else:
                self._free[size_bytes].append(slot)
            slot += size_bytes
        self._end = slot
