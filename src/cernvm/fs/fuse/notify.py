"""Telling the kernel that what it remembers of a mount is out of date.

Concurrency: from any thread but the one that serves requests: an invalidation may wait for locks that the kernel holds
while a request of its own is being answered.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from cernvm.fs.fuse.protocol import Notice, format_notice, pack_inval_entry, pack_inval_inode


@dataclass(frozen=True, slots=True)
class Notifier:
    """The way from a server to the kernel on the descriptor of its mount; without epochs as before Linux 6.16."""

    descriptor: int
    has_epochs: bool = True

    def increment_epoch(self) -> bool:
        """Have the kernel ask again for every name it knows; False where it cannot (before Linux 6.16)."""
        return self.has_epochs and self._send(Notice.INC_EPOCH)

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Forget one name, known or known to be absent."""
        self._send(Notice.INVAL_ENTRY, pack_inval_entry(parent, name))

    def expire_entry(self, parent: int, name: bytes) -> None:
        """Have the kernel ask again for one name; what it stands for is kept if the answer is the same inode."""
        self._send(Notice.INVAL_ENTRY, pack_inval_entry(parent, name, expire_only=True))

    def invalidate_inode(self, inode: int) -> None:
        """Forget an inode's attributes, cached content and cached listing."""
        self._send(Notice.INVAL_INODE, pack_inval_inode(inode, 0, 0))

    def resend(self) -> bool:
        """Have the kernel send again what was read and not answered; False where it cannot (before Linux 6.9).

        Concurrency: also from the thread that serves.
        """
        return self._send(Notice.RESEND)

    def _send(self, kind: Notice, body: bytes = b"") -> bool:
        try:
            os.write(self.descriptor, format_notice(kind, body))
        except OSError as error:
            # EINVAL: an unknown kind; ENOENT: nothing of that name was remembered;
            # ENODEV, EBADF, ENOTCONN: the mount is gone, and its memory with it
            known = (errno.EINVAL, errno.ENOENT, errno.ENODEV, errno.EBADF, errno.ENOTCONN)
            if error.errno not in known:
                raise
            return False
        return True
