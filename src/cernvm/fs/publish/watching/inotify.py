"""The kernel's notes of what happens in directories: inotify(7), without a library for it."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
from collections.abc import Iterator
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)

MODIFY, ATTRIB, CLOSE_WRITE = 0x2, 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF = 0x400, 0x800
OVERFLOW, IGNORED, IS_DIRECTORY = 0x4000, 0x8000, 0x4000_0000
_ONLY_DIRECTORIES, _NO_LINKS = 0x0100_0000, 0x0200_0000
_CHANGES = (
    MODIFY
    | ATTRIB
    | CLOSE_WRITE
    | MOVED_FROM
    | MOVED_TO
    | CREATE
    | DELETE
    | DELETE_SELF
    | MOVE_SELF
)
_HEAD = struct.Struct("iIII")
_READ_BYTES = 64 << 10


class Event(NamedTuple):
    """Something happened to `name` in the directory of watch `number`; -1 where notes were lost."""

    number: int
    mask: int
    name: bytes


class Inotify:
    """One queue of notes. Errors: `OSError` where the machine gives no queue or no more watches."""

    def __init__(self) -> None:
        self._descriptor = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise _error()

    def close(self) -> None:
        """Forget all watches."""
        os.close(self._descriptor)

    def watch(self, directory: bytes) -> int:
        """Note what happens in a directory from now on; the number that its events carry."""
        mask = _CHANGES | _ONLY_DIRECTORIES | _NO_LINKS
        number = _libc.inotify_add_watch(self._descriptor, directory, mask)
        if number < 0:
            raise _error()
        return int(number)

    def wait(self, timeout_s: float) -> bool:
        """Whether something is noted within the time."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout_s) * 1000))

    def read(self) -> Iterator[Event]:
        """What is noted by now."""
        while True:
            try:
                data = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                return
            at = 0
            while at + _HEAD.size <= len(data):
                number, mask, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                yield Event(number, mask, data[at : at + length].rstrip(b"\0"))
                at += length


def _error() -> OSError:
    number = ctypes.get_errno() or errno.EIO
    return OSError(number, os.strerror(number))
