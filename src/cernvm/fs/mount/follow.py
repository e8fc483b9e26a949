"""Following a repository: ask for a new revision when the last answer has grown old, and tell the kernel of it."""

from __future__ import annotations

import logging
import threading

from cernvm.core.clock import Deadline
from cernvm.core.log import fields
from cernvm.fs.fuse import ROOT_INODE, Notifier
from cernvm.fs.mount.view_operations import ViewOperations
from cernvm.fs.vfs import View

RELOAD_DEADLINE_S = 60.0

_SHORTEST_WAIT_S = 1.0

log = logging.getLogger(__name__)


class Follower:
    """Reloads a view by its own time plan in a thread, and on demand.

    Concurrency: `reload` from any thread but the session's; two reloads never overlap.
    """

    def __init__(self, view: View, operations: ViewOperations, notifier: Notifier) -> None:
        self._view = view
        self._operations = operations
        self._notifier = notifier
        self._turn = threading.Lock()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to follow."""
        threading.Thread(target=self._follow, name="mount-follow", daemon=True).start()

    def stop(self) -> None:
        """End before the next reload."""
        self._stopped.set()

    def reload(self) -> bool:
        """Ask for a newer revision now; True when the tree has changed."""
        with self._turn:
            before = self._view.revision
            has_changed = self._view.reload(Deadline.after(RELOAD_DEADLINE_S))
            if has_changed:
                self._invalidate()
                log.info(
                    "revision.changed", extra=fields(before=before, revision=self._view.revision)
                )
            return has_changed

    def _follow(self) -> None:
        while not self._stopped.wait(max(_SHORTEST_WAIT_S, self._view.reload_due_s)):
            self.reload()

    def _invalidate(self) -> None:
        """Names, then what hangs on inodes that stay; without epochs, names run out by themselves within a minute."""
        self._notifier.increment_epoch()
        for inode in (ROOT_INODE, *self._operations.known_folders):
            self._notifier.invalidate_inode(inode)
