"""A repository's view as the file system that a session serves: the same verbs, errors turned into errno.

The view itself logs, and keeps for `cvm why`, what went wrong at which path.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Concatenate, ParamSpec, TypeVar, cast

from cernvm.core.errors import CvmError, NotFoundError, UnavailableError
from cernvm.core.log import fields
from cernvm.fs.fuse import Attributes, Child, MustWaitError, Patience, Space
from cernvm.fs.mount.errno_of import errno_of
from cernvm.fs.mount.recent import RecentFailures
from cernvm.fs.vfs import DormantInodeError, ListedName, View

P = ParamSpec("P")
T = TypeVar("T")

_NAME_SPACES = (b"user.", b"system.", b"security.", b"trusted.")  # xattr(7)

MAX_ABSENT = 16_384

log = logging.getLogger(__name__)


def _with_errno(
    verb: Callable[Concatenate[ViewOperations, int, P], T],
) -> Callable[Concatenate[ViewOperations, int, P], T]:
    """Let only `OSError`, with an errno of our table, and `MustWaitError` out of a verb about an inode.

    The verb's last argument is its patience. Inodes that only a process before this one knew are found again first.
    """

    def translated(self: ViewOperations, inode: int, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return verb(self, inode, *args, **kwargs)
        except DormantInodeError:
            self._awaken(inode, cast("Patience", args[-1]))
            return translated(self, inode, *args, **kwargs)
        except CvmError as error:
            errno_value = errno.ESTALE if _is_of_inode(error) else errno_of(error)
            raise OSError(errno_value, error.what) from error
        except OSError as error:
            # of our own files or sockets: its errno would tell the reader a wrong story
            log.exception("request.failed", extra=fields(verb=verb.__name__, inode=inode))
            raise OSError(errno.EIO, str(error)) from error

    return translated


class ViewOperations:
    """Serves a `View`. Concurrency: as `Operations`; safe from any thread, since a view is."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.generation: int | None = 0
        self._absent: dict[tuple[int, bytes], None] = {}
        self._has_lost_absent = False
        self._waiting: set[object] = set()
        self._recent = RecentFailures()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While what is shown may change: nothing that is answered meanwhile may be remembered."""
        before, self.generation = self.generation or 0, None
        try:
            yield
        finally:
            self.generation = before + 1

    @property
    def is_folder_held(self) -> bool:
        """Whether somebody waits for a name or a listing: the kernel holds that directory's lock until the answer."""
        return bool(self._waiting)

    def known_names(self) -> tuple[list[tuple[int, bytes]], bool]:
        """Directory and name of what the kernel may remember, also as absent; whether that is all.

        Names that are absent are told once only.
        """
        absent, self._absent = self._absent, {}
        is_all, self._has_lost_absent = not self._has_lost_absent, False
        return [*self._view.known_names(), *absent], is_all

    def known_folders(self) -> Sequence[int]:
        """The directories, by inode, whose listings the kernel may remember."""
        return self._view.known_folders()

    @_with_errno
    def lookup(self, parent: int, name: bytes, patience: Patience) -> Attributes | None:
        try:
            if patience is None:
                return _at_hand(self._view.try_lookup(parent, name))
            with self._unless_failed("lookup", parent, name):
                return self._view.lookup(parent, name, patience)
        except NotFoundError as error:
            if _is_of_inode(error):
                raise
            self._note_absent(parent, name)
            return None

    @_with_errno
    def attributes(self, inode: int, patience: Patience) -> Attributes:  # noqa: ARG002
        return self._view.attributes(inode)

    @_with_errno
    def target(self, inode: int, patience: Patience) -> bytes:  # noqa: ARG002
        return self._view.readlink(inode)

    @_with_errno
    def children(self, inode: int, offset: int, patience: Patience) -> Sequence[ListedName]:
        if patience is None:
            return _at_hand(self._view.try_listing(inode, offset))
        with self._unless_failed("children", inode):
            return self._view.listing(inode, offset, patience)

    def remember(self, child: Child) -> None:
        self._view.remember(cast("ListedName", child))  # all children come from `children`

    @_with_errno
    def read(self, inode: int, offset: int, size_bytes: int, patience: Patience) -> bytes:
        if patience is None:
            return _at_hand(self._view.try_read(inode, offset, size_bytes))
        with self._unless_failed("read", inode):
            return self._view.read(inode, offset, size_bytes, patience)

    def is_uncached(self, inode: int) -> bool:
        with suppress(MustWaitError):
            return self._is_uncached(inode, None)
        return False

    def backing(self, inode: int, least_bytes: int) -> int | None:
        with suppress(MustWaitError):
            return self._backing(inode, least_bytes, None)
        return None

    def xattr(self, inode: int, name: bytes, patience: Patience) -> bytes:
        value = self._xattr_if_any(inode, name, patience)
        if value is not None:
            return value
        if not name.startswith(_NAME_SPACES):
            raise OSError(errno.EOPNOTSUPP, "attributes of that kind do not exist")
        raise OSError(errno.ENODATA, "no such attribute")

    @_with_errno
    def xattr_names(self, inode: int, patience: Patience) -> Sequence[bytes]:  # noqa: ARG002
        return self._view.xattr_names(inode)

    def space(self) -> Space:
        size = self._view.statfs()
        return Space(size.total_bytes, size.free_bytes, inodes=size.files)

    def forget(self, inode: int, count: int) -> None:
        self._view.forget(inode, count)

    @_with_errno
    def _xattr_if_any(self, inode: int, name: bytes, patience: Patience) -> bytes | None:
        if patience is None and self._view.magic.is_slow(name):
            raise MustWaitError
        return self._view.xattr(inode, name)

    @_with_errno
    def _is_uncached(self, inode: int, patience: Patience) -> bool:  # noqa: ARG002
        return self._view.is_uncached(inode)

    @_with_errno
    def _backing(self, inode: int, least_bytes: int, patience: Patience) -> int | None:  # noqa: ARG002
        return self._view.backing(inode, least_bytes)

    def _awaken(self, inode: int, patience: Patience) -> None:
        """Errors: `MustWaitError`; `OSError(ESTALE)`, upon which the kernel walks the whole path again."""
        try:
            if not self._view.awaken(inode, patience):
                raise MustWaitError
        except NotFoundError as error:
            raise OSError(errno.ESTALE, error.what) from error
        except CvmError as error:
            raise OSError(errno_of(error), error.what) from error

    @contextmanager
    def _unless_failed(self, verb: str, *of: Hashable) -> Iterator[None]:
        wanted = (verb, *of)
        self._recent.check(wanted)
        waiting = object()
        if verb in ("lookup", "children"):
            self._waiting.add(waiting)
        try:
            yield
        except UnavailableError as error:
            self._recent.note(wanted, error)
            raise
        finally:
            self._waiting.discard(waiting)

    def _note_absent(self, parent: int, name: bytes) -> None:
        absent = self._absent
        if len(absent) >= MAX_ABSENT:
            absent.popitem()  # in one step, as others may be adding
            self._has_lost_absent = True
        absent[parent, name] = None


def _is_of_inode(error: CvmError) -> bool:
    """Whether it says nothing of a name: upon ESTALE the kernel walks the whole path again."""
    return isinstance(error, NotFoundError) and error.kind == "inode"


def _at_hand(answer: T | None) -> T:
    if answer is None:
        raise MustWaitError
    return answer
