"""A repository as a read-only file system, addressed by inode number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cernvm.core.clock import Deadline
from cernvm.fs.vfs.attributes import Attributes, FileSystemSize, ListedName

ROOT_INODE = 1


class View(Protocol):
    """The file system that one mount shows.

    Errors: `NotFoundError` for a name that is not there or an inode that was forgotten, `TrustError`, `FormatError` and
    `UnavailableError` as the reader gives them.
    Concurrency: safe from any thread; no verb holds a lock while it waits.
    """

    def try_lookup(self, parent: int, name: bytes) -> Attributes | None:
        """`lookup` without waiting; None when a catalog would have to be fetched first."""

    def lookup(self, parent: int, name: bytes, deadline: Deadline) -> Attributes:
        """The entry `name` of a directory; counts one reference, which `forget` gives back.

        Errors: `NotFoundError` when the directory surely has no such name (it may be remembered as absent).
        """

    def remember(self, listed: ListedName) -> None:
        """Count one reference to a listed entry, as `lookup` does: for READDIRPLUS, per name really handed out."""

    def forget(self, inode: int, count: int) -> None:
        """Give back `count` references; unknown inodes and the root are ignored."""

    def attributes(self, inode: int) -> Attributes:
        """What stat shows of a referenced inode; never waits."""

    def try_listing(self, inode: int, offset: int) -> Sequence[ListedName] | None:
        """`listing` without waiting; None when a catalog would have to be fetched first."""

    def listing(self, inode: int, offset: int, deadline: Deadline) -> Sequence[ListedName]:
        """The names of a directory after `offset` (0: from the start), `.` and `..` first."""

    def readlink(self, inode: int) -> bytes:
        """A symlink's target, variant links expanded."""

    def try_read(self, inode: int, offset: int, size_bytes: int) -> bytes | None:
        """`read` without waiting; None when content would have to be fetched first."""

    def read(self, inode: int, offset: int, size_bytes: int, deadline: Deadline) -> bytes:
        """Content of a regular file; shorter than asked for only at its end."""

    def xattr_names(self, inode: int) -> Sequence[bytes]:
        """Stored extended attributes, and on the root the magic ones."""

    def xattr(self, inode: int, name: bytes) -> bytes | None:
        """An extended attribute's value; None where there is none (ENODATA)."""

    def statfs(self) -> FileSystemSize:
        """What df shows; never waits."""

    @property
    def revision(self) -> int:
        """The revision that is shown now."""

    @property
    def reload_due_s(self) -> float:
        """Seconds until `reload` should be called; 0 when it is due."""

    def reload(self, deadline: Deadline) -> bool:
        """Ask for a newer revision and swap to it; True when the tree has changed.

        A failure keeps the revision that is shown, is logged and kept for `why`, and is not raised. Open inodes keep
        their content: changed content has another inode number. The kernel's names must be invalidated afterwards.
        """
