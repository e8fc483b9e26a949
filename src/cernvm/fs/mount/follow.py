"""Following a repository: ask for a new revision when the last answer has grown old, and tell the kernel of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeadlineError
from cernvm.core.log import fields
from cernvm.fs.fuse import MOST_KNOWN_INODES, ROOT_INODE, Notifier
from cernvm.fs.mount.view_operations import ViewOperations
from cernvm.fs.vfs import View

RELOAD_DEADLINE_S = 60.0
TRIM_EVERY_S = 2.0
MAX_EXPIRED = 100_000  # names; half a second

_SHORTEST_WAIT_S = 1.0
_PAUSE_AFTER_FAILURE_S = 30.0

log = logging.getLogger(__name__)


class Follower:
    """Reloads a view by its own time plan in a thread, and on demand.

    `on_changing` is called when the repository has another revision, before the view shows it, `on_change` afterwards.
    Concurrency: `reload` from any thread but the session's; two reloads never overlap.
    """

    def __init__(
        self,
        view: View,
        operations: ViewOperations,
        notifier: Notifier,
        *,
        on_changing: Callable[[], None] = lambda: None,
        on_change: Callable[[], None] = lambda: None,
        on_refusal: Callable[[CvmError], None] = lambda _: None,
        most_known: int = MOST_KNOWN_INODES,
    ) -> None:
        self._view = view
        self._operations = operations
        self._notifier = notifier
        self._on_changing = on_changing
        self._on_change = on_change
        self._on_refusal = on_refusal
        self._most_known = most_known
        self._turn = threading.Lock()
        self._stopped = threading.Event()

    def start(self, *, invalidating: bool = False) -> None:
        """Begin to follow; `invalidating` what the kernel was told by a process that may not have finished to."""
        threading.Thread(
            target=self._follow, args=(invalidating,), name="mount-follow", daemon=True
        ).start()

    def stop(self) -> None:
        """End before the next reload."""
        self._stopped.set()

    def reload(self) -> bool:
        """Ask for a newer revision now; True when the tree has changed. Errors: `DeadlineError`."""
        if not self._turn.acquire(timeout=RELOAD_DEADLINE_S):
            raise DeadlineError("another look for a new revision", after_s=RELOAD_DEADLINE_S)
        try:
            before = self._view.revision
            deadline = Deadline.after(RELOAD_DEADLINE_S)
            has_changed = self._view.reload(deadline, changing=self._changing)
            if has_changed:
                self._on_change()
                self._forget_listings()
                log.info(
                    "revision.changed", extra=fields(before=before, revision=self._view.revision)
                )
            refusal = self._view.repository.refusal
            if refusal is not None:
                self._on_refusal(refusal)
            return has_changed
        finally:
            self._turn.release()

    def trim(self) -> None:
        """Have the kernel forget the oldest files, if it knows more than our memory shall be spent on."""
        surplus = self._view.known_count - self._most_known
        if surplus > 0:
            for parent, name in self._view.oldest_names(surplus + self._most_known // 4):
                self._notifier.invalidate_entry(parent, name)

    def forget_content(self) -> None:
        """Have the kernel drop what it keeps of every file's content, but of those it reads without us."""
        for inode in self._view.known_inodes():
            self._notifier.invalidate_inode(inode)

    def _pause_s(self) -> float:
        return min(max(_SHORTEST_WAIT_S, self._view.reload_due_s), TRIM_EVERY_S)

    def _follow(self, invalidating: bool) -> None:
        if invalidating:
            self._guarded(self._invalidate)
        while not self._stopped.wait(self._pause_s()):
            self._guarded(self.trim)
            if self._view.reload_due_s == 0:
                self._guarded(self.reload)

    def _guarded(self, step: Callable[[], object]) -> None:
        """A defect costs one step: a mount that silently followed no more would show old software for ever."""
        try:
            step()
        except Exception:
            log.exception("follow.failed", extra=fields(step=step.__name__))
            self._stopped.wait(_PAUSE_AFTER_FAILURE_S)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._operations.changing():
            self._expire_names()
            self._on_changing()
            yield

    def _invalidate(self) -> None:
        self._expire_names()
        self._forget_listings()

    def _expire_names(self) -> None:
        """Have the kernel ask again for all names, before there is anything else to say.

        One by one, since what is still the same then keeps its pages; all at once, which costs them, where they are
        too many or one would have to wait for a lock. Nobody sees a part of the change: until it is made, the old
        answers are given and not remembered.
        """
        names, is_all = self._operations.known_names()
        is_quick = is_all and len(names) <= MAX_EXPIRED and not self._operations.is_folder_held
        if is_quick or not self._notifier.increment_epoch():
            for parent, name in names:
                self._notifier.expire_entry(parent, name)

    def _forget_listings(self) -> None:
        for inode in (ROOT_INODE, *self._operations.known_folders()):
            self._notifier.invalidate_inode(inode)
