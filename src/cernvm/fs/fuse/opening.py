"""What happens when a program opens a file: nothing, or a choice of how the kernel reads it while it is open.

`no-open` tells the kernel once that opening means nothing; it never asks again, which excludes the other choices for
the whole mount. Else each file is read in one of three ways while it is open: from the kernel's kept pages; past them
(direct I/O), where its publisher asked for that; or straight from the cache's file (passthrough), where the kernel and
the rights allow it. One inode is read in one way at a time: the kernel refuses to mix passthrough with kept pages.
Source: docs/decisions/kernel-caching.md; Documentation/filesystems/fuse-passthrough.rst of the kernel.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cernvm.core.log import fields
from cernvm.fs.fuse.operations import Operations
from cernvm.fs.fuse.protocol import InitFlag, OpenFlag, pack_open
from cernvm.fs.fuse.settings import KernelSettings

_BACKING_OPEN = 0x4010_E501  # _IOW(229, 1, struct fuse_backing_map)
_BACKING_CLOSE = 0x4004_E502  # _IOW(229, 2, u32)
_BACKING_MAP = struct.Struct("=iIQ")
_NUMBER = struct.Struct("=I")
_CACHED = int(OpenFlag.KEEP_CACHE | OpenFlag.NOFLUSH)
_DIRECT = int(OpenFlag.DIRECT_IO | OpenFlag.NOFLUSH)
_THROUGH = int(OpenFlag.PASSTHROUGH | OpenFlag.NOFLUSH)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Open:
    """One inode that is open `count` times; `backing` is the kernel's number of the file it passes reads to, or 0.

    Shape: `flags` is None for what another process has opened, in one of the ways without a backing.
    """

    flags: int | None
    backing: int
    count: int = 0


class OpenFiles:
    """The files that programs hold open on one mount.

    The kernel remembers which file it passes reads to, and which it must not, also when this process dies: a successor
    must begin with `held`, by inode the kernel's number (0: none) and the count of openers, as `note` was last told
    them (a count of 0: closed).
    Concurrency: the session's loop only.
    """

    def __init__(
        self,
        descriptor: int,
        flags: int,
        settings: KernelSettings,
        *,
        held: Mapping[int, tuple[int, int]] | None = None,
        note: Callable[[int, int, int], None] = lambda _inode, _backing, _count: None,
    ) -> None:
        self._descriptor = descriptor
        self._settings = settings
        self._is_free = bool(flags & InitFlag.NO_OPEN_SUPPORT)
        self._may_pass = bool(flags & InitFlag.PASSTHROUGH)
        self._note = note if self._may_pass else lambda _inode, _backing, _count: None
        self._open = {
            inode: _Open(_THROUGH if backing else None, backing, count)
            for inode, (backing, count) in (held or {}).items()
        }

    def open(self, operations: Operations, inode: int) -> bytes:
        """The answer to OPEN. Errors: `OSError(ENOSYS)` where opening means nothing, as the kernel wants to hear it."""
        if self._is_free:
            raise OSError(errno.ENOSYS, "open files have no state")
        held = self._open.get(inode)
        if held is None:
            held = self._begin(operations, inode)
            self._open[inode] = held
        if held.flags is None:
            held.flags = _unpassed(operations, inode)
        held.count += 1
        self._note(inode, held.backing, held.count)
        return pack_open(0, held.flags, held.backing)

    def release(self, inode: int) -> None:
        """One opener less; with the last one the kernel's file goes."""
        held = self._open.get(inode)
        if held is None:
            return
        held.count -= 1
        self._note(inode, held.backing, held.count)
        if held.count <= 0:
            del self._open[inode]
            if held.backing:
                self._ioctl(_BACKING_CLOSE, _NUMBER.pack(held.backing))

    def __len__(self) -> int:
        return len(self._open)

    def _begin(self, operations: Operations, inode: int) -> _Open:
        flags = _unpassed(operations, inode)
        may_pass = self._may_pass and flags != _DIRECT
        backing = self._pass_through(operations, inode) if may_pass else 0
        return _Open(_THROUGH if backing else flags, backing)

    def _pass_through(self, operations: Operations, inode: int) -> int:
        """The kernel's number of an inode's file; 0 where reads have to come to us."""
        descriptor = operations.backing(inode, self._settings.passthrough_from_bytes)
        if descriptor is None:
            return 0
        try:
            return self._ioctl(_BACKING_OPEN, _BACKING_MAP.pack(descriptor, 0, 0))
        finally:
            os.close(descriptor)

    def _ioctl(self, request: int, argument: bytes) -> int:
        """What the kernel answers; 0 when it refuses, for good where the right or the ability is missing."""
        try:
            # a buffer that may be changed makes `ioctl` return the number
            number: int = fcntl.ioctl(self._descriptor, request, bytearray(argument), True)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTTY):
                self._may_pass = False
            log.info("passthrough.refused", extra=fields(error=error.strerror))
            return 0
        return number


def _unpassed(operations: Operations, inode: int) -> int:
    """How an inode is opened whose reads come to us."""
    return _DIRECT if operations.is_uncached(inode) else _CACHED
