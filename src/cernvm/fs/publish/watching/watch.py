"""Whether a tree changed, and whether it is quiet since."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from cernvm.core.errors import ChangedError
from cernvm.core.log import fields
from cernvm.fs.publish.source import walk_folders
from cernvm.fs.publish.watching.inotify import (
    CREATE,
    IGNORED,
    IS_DIRECTORY,
    MOVED_TO,
    OVERFLOW,
    Inotify,
)

log = logging.getLogger(__name__)

T = TypeVar("T")


class TreeWatch(Protocol):
    """Looks at one tree. Errors: those of walking it."""

    def wait_for_change(self) -> None:
        """Return once something changed since the last call of `forget`."""

    def wait_for_quiet(self, quiet_s: float) -> None:
        """Return once nothing changed for a while."""

    def forget(self) -> None:
        """Have whatever changed until now be known."""

    def has_changed(self) -> bool:
        """Whether something changed since the last call of `forget`."""

    def close(self) -> None:
        """Stop looking."""


def open_watch(tree: Path, *, poll_s: float, is_polling: bool = False) -> TreeWatch:
    """The best watch for a tree: the kernel's notes, as long as it gives them for so many directories."""
    return PolledWatch(tree, poll_s) if is_polling else BestWatch(tree, poll_s)


class BestWatch:
    """A watch by inotify until the machine gives no more of it, then one that walks the tree."""

    def __init__(self, tree: Path, poll_s: float) -> None:
        self._tree = tree
        self._poll_s = poll_s
        self._watch: TreeWatch
        try:
            self._watch = NotedWatch(tree)
        except OSError as exc:
            self._poll(exc)

    def wait_for_change(self) -> None:
        self._try(lambda watch: watch.wait_for_change())

    def wait_for_quiet(self, quiet_s: float) -> None:
        self._try(lambda watch: watch.wait_for_quiet(quiet_s))

    def forget(self) -> None:
        self._try(lambda watch: watch.forget())

    def has_changed(self) -> bool:
        return self._try(lambda watch: watch.has_changed())

    def close(self) -> None:
        self._watch.close()

    def _try(self, act: Callable[[TreeWatch], T]) -> T:
        try:
            return act(self._watch)
        except OSError as exc:
            self._watch.close()
            self._poll(exc)
        return act(self._watch)

    def _poll(self, reason: OSError) -> None:
        log.warning(
            "watch.polling", extra=fields(tree=self._tree, reason=reason.strerror or str(reason))
        )
        self._watch = PolledWatch(self._tree, self._poll_s)


class NotedWatch:
    """A watch by inotify: immediate, and idle while nothing happens."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._inotify = Inotify()
        self._has_changed = True
        try:
            self._begin()
        except BaseException:
            self._inotify.close()
            raise

    def wait_for_change(self) -> None:
        while not self._has_changed:
            self._inotify.wait(3600)
            self._take()

    def wait_for_quiet(self, quiet_s: float) -> None:
        while self._inotify.wait(quiet_s):
            self._take()

    def forget(self) -> None:
        self._take()
        self._has_changed = False

    def has_changed(self) -> bool:
        self._take()
        return self._has_changed

    def close(self) -> None:
        self._inotify.close()

    def _begin(self) -> None:
        """Watch every directory; one that comes while this is under way is noted by the one above it."""
        self._places: dict[int, bytes] = {}
        self._add(os.fsencode(self._tree))

    def _add(self, top: bytes) -> None:
        waiting = [top]
        while waiting:
            place = waiting.pop()
            try:
                self._places[self._inotify.watch(place)] = place
                with os.scandir(place) as found:
                    waiting += [one.path for one in found if one.is_dir(follow_symlinks=False)]
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue  # gone again, or not to be read: publishing will say so

    def _take(self) -> None:
        for event in self._inotify.read():
            self._has_changed = True
            if event.mask & IGNORED:
                self._places.pop(event.number, None)
            elif event.mask & OVERFLOW:
                self._begin()
            elif event.mask & IS_DIRECTORY and event.mask & (CREATE | MOVED_TO):
                above = self._places.get(event.number)
                if above is not None:
                    self._add(above + b"/" + event.name)


class PolledWatch:
    """A watch that walks the tree again and again, for file systems that note nothing."""

    def __init__(self, tree: Path, poll_s: float) -> None:
        self._tree = tree
        self._poll_s = poll_s
        self._known = b""

    def wait_for_change(self) -> None:
        while not self.has_changed():
            time.sleep(self._poll_s)

    def wait_for_quiet(self, quiet_s: float) -> None:
        before = self._look()
        while True:
            time.sleep(quiet_s)
            after = self._look()
            if after == before:
                return
            before = after

    def forget(self) -> None:
        self._known = self._look()

    def has_changed(self) -> bool:
        return self._look() != self._known

    def close(self) -> None:
        pass

    def _look(self) -> bytes:
        """A fingerprint of all attributes in the tree; another one each time while it cannot be walked."""
        hasher = hashlib.sha256()
        try:
            for folder in walk_folders(self._tree):
                for found in (folder.found, *folder.children):
                    status = found.status
                    about = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                    hasher.update(repr((found.path, about)).encode())
        except ChangedError:
            return os.urandom(32)
        return hasher.digest()
