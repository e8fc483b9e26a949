"""What a read-only file system must answer so that a session can show it to the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from cernvm.core.clock import Deadline
from cernvm.fs.fuse.values import Attributes, Space

Patience = Deadline | None
"""How long an answer may take: None means at once, from what is at hand."""


class MustWaitError(Exception):
    """The answer is not at hand: ask again with a deadline, from a thread that may wait. Never leaves a session."""


class Child(Protocol):
    """One name of a directory; a later request goes on after it by giving its `offset`, which is never 0."""

    @property
    def name(self) -> bytes: ...
    @property
    def offset(self) -> int: ...
    @property
    def attributes(self) -> Attributes: ...


class Operations(Protocol):
    """A read-only file system of inodes, the root being number 1.

    An inode number never changes its content or kind; changed content has a new number. The kernel refers to an inode
    from the answer that names it until `forget` has taken back as many references as were given.

    Errors: `OSError` with the errno that the caller shall see; `MustWaitError` without patience.
    Concurrency: called without patience from the session's loop only, with a deadline from several threads at once.
    """

    @property
    def generation(self) -> int | None:
        """Another number whenever earlier answers may be out of date; None while that is about to happen.

        The kernel may remember an answer only if the number was the same, and one, before and after it was made.
        """

    def lookup(self, parent: int, name: bytes, patience: Patience) -> Attributes | None:
        """What `name` is in the directory `parent`, and one reference to it; None if it does not exist."""

    def attributes(self, inode: int, patience: Patience) -> Attributes:
        """What stat(2) shows."""

    def target(self, inode: int, patience: Patience) -> bytes:
        """Where a symbolic link points."""

    def children(self, inode: int, offset: int, patience: Patience) -> Iterable[Child]:
        """The names of a directory after `offset` (0: all), `.` and `..` first; may be consumed in part."""

    def remember(self, child: Child) -> None:
        """Give one reference to a child that was handed out with its attributes; never for `.` and `..`."""

    def read(self, inode: int, offset: int, size_bytes: int, patience: Patience) -> bytes:
        """The bytes of a file from `offset` on; fewer than asked for only at its end."""

    def is_uncached(self, inode: int) -> bool:
        """Whether the kernel must keep no pages of a file; always at hand."""

    def backing(self, inode: int, least_bytes: int) -> int | None:
        """A descriptor, which the caller closes, of a file that is the whole content; None where none is at hand.

        None also for content of less than `least_bytes`.
        """

    def xattr(self, inode: int, name: bytes, patience: Patience) -> bytes:
        """The value of an extended attribute; `OSError(ENODATA)` if there is none."""

    def xattr_names(self, inode: int, patience: Patience) -> Sequence[bytes]:
        """The names of the extended attributes that a listing shows."""

    def space(self) -> Space:
        """What statfs(2) shows; always at hand."""

    def forget(self, inode: int, count: int) -> None:
        """Take back `count` references."""
