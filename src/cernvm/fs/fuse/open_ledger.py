"""Which files are open, and which of them the kernel reads past us, in memory that outlives the process.

Whoever serves next keeps to it: the kernel refuses to read one inode both ways.

Source: docs/formats/hand-over.md
"""

from __future__ import annotations

import mmap
import os
import struct

_PLACE = struct.Struct(
    "=QII"
)  # inode, the kernel's number of the file, openers; no openers: an empty place
_FIRST_BYTES = 4096


class OpenLedger:
    """What `OpenFiles` is told to note. Concurrency: the session's loop only."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("cvm-open") if descriptor is None else descriptor
        if os.fstat(self.descriptor).st_size == 0:
            os.posix_fallocate(self.descriptor, 0, _FIRST_BYTES)
        self._memory = mmap.mmap(self.descriptor, 0)
        self._places: dict[int, int] = {}
        self._free: list[int] = []
        self.held: dict[int, tuple[int, int]] = {}
        for place in range(0, len(self._memory), _PLACE.size):
            inode, backing, count = _PLACE.unpack_from(self._memory, place)
            if count:
                self._places[inode] = place
                self.held[inode] = (backing, count)
            else:
                self._free.append(place)

    def note(self, inode: int, backing: int, count: int) -> None:
        """Record that `count` openers read an inode, from the kernel's file `backing` or us (0); not without room."""
        place = self._places.get(inode)
        if place is None:
            if not (self._free or self._grow()):
                return
            place = self._places[inode] = self._free.pop()
        _PLACE.pack_into(self._memory, place, inode, backing, count)
        if not count:
            self._free.append(self._places.pop(inode))

    def _grow(self) -> bool:
        old_bytes = len(self._memory)
        try:
            os.posix_fallocate(self.descriptor, 0, 2 * old_bytes)
            self._memory.resize(2 * old_bytes)
        except OSError:
            return False
        self._free = list(range(old_bytes, 2 * old_bytes, _PLACE.size))
        return True
