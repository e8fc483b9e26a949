"""The cache in a folder, shared by all mounts of this user on this machine.

A hit is one open(2) or, for what was read lately, a look into a table: SQLite hears of uses and additions in batches.
Content is written below `txn/` and renamed when complete, so a crash leaves whole files or nothing.
Source: docs/formats/cache.md.
"""

from __future__ import annotations

import errno
import itertools
import logging
import resource
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from weakref import WeakValueDictionary

from cernvm.core.errors import SpaceError
from cernvm.core.log import fields
from cernvm.fs.cache.accounts import Accounts
from cernvm.fs.cache.behind import Waiting, WriteBehind
from cernvm.fs.cache.checking import Checked, Checker
from cernvm.fs.cache.checksum import checksum
from cernvm.fs.cache.content import FileContent, MemoryContent
from cernvm.fs.cache.draft import FileDraft, write_whole
from cernvm.fs.cache.folder import NO_DESCRIPTORS, Folder, own_access
from cernvm.fs.cache.index import Row, Summary
from cernvm.fs.cache.opening import OpenIndex
from cernvm.fs.cache.port import Content, ContentKey, Draft, Rank, Usage
from cernvm.fs.cache.quota import Limits

SETTLE_EVERY_S = 5.0
MAX_HELD = 256

_STALE = (errno.ELOOP, errno.EMEDIUMTYPE, errno.ENXIO, errno.EACCES)

log = logging.getLogger(__name__)


class DiskCache:
    """A `Cache` below `folder`; `quota_bytes` of -1 sets no other bound than the partition.

    Concurrency: also safe from many processes of one user and machine, but not over a network share.
    """

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int,
        is_readable_by_all: bool = False,
        free_floor_bytes: int | None = None,
    ) -> None:
        self._quota_bytes = quota_bytes
        self._lock = threading.Lock()  # guards the tables below, never held over input or output
        self._held: OrderedDict[str, FileContent] = OrderedDict()
        self._live: WeakValueDictionary[str, FileContent] = WeakValueDictionary()
        self._drafts = itertools.count(1)
        self._max_held = min(MAX_HELD, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)
        self._closing = False
        with _as_space_error(folder):
            access = own_access(is_readable_by_all=is_readable_by_all)
            self._folder = Folder(folder, access)
            self._index = OpenIndex(self._folder)
        self._accounts = Accounts(
            self._folder,
            self._index,
            quota_bytes=quota_bytes,
            floor_bytes=free_floor_bytes,
            remove=self._evict_unread,
        )
        self._ledger = self._accounts.ledger
        self._checker = Checker(self._folder, self._index, self._damaged)
        self._behind = WriteBehind(self._write, self._discard)
        self._accounts.settle()
        self._housekeeper = threading.Thread(
            target=self._keep_house, name="cache-housekeeper", daemon=True
        )
        self._housekeeper.start()

    def open(self, key: ContentKey) -> Content | None:
        name = key.name
        waiting = self._behind.find(name)
        if waiting is not None:
            if waiting.rank is Rank.AHEAD:
                self._ledger.use(name)
            return waiting
        with self._lock:
            held = self._held.get(name)
            if held is not None:
                self._held.move_to_end(name)
            else:
                held = self._live.get(name)
        if held is None:
            held = self._open_file(name)
        if held is not None:
            self._ledger.use(name)
        return held

    def draft(self, key: ContentKey, *, rank: Rank = Rank.REGULAR) -> Draft:
        return FileDraft(
            self,
            self._folder,
            self._draft_name(),
            key.name,
            rank=rank,
            quota_bytes=self._quota_bytes,
        )

    def put_small(self, key: ContentKey, data: bytes, *, rank: Rank = Rank.REGULAR) -> Content:
        if 0 <= self._quota_bytes < len(data):
            return MemoryContent(data)
        content = Waiting(data, rank=rank)
        self._behind.put(key.name, content)
        return content

    def pin(self, key: ContentKey) -> None:
        self._ledger.pin(key.name, 1)

    def unpin(self, key: ContentKey) -> None:
        self._ledger.pin(key.name, -1)

    def evict(self, key: ContentKey) -> None:
        self._behind.forget(key.name)
        self._discard(key.name)

    def usage(self) -> Usage:
        return self._accounts.usage

    def clean(self, target_bytes: int) -> Usage:
        """Evict until at most `target_bytes` are used, as far as nothing is pinned or being read."""
        self._accounts.settle(Limits(target_bytes, target_bytes))
        return self.usage()

    def summary(self) -> Summary:
        """How much there is of what. Errors: `SpaceError` when the index cannot be read."""
        self._accounts.settle()
        with _as_space_error(self._folder.path):
            return self._index.current.summary()

    def objects(self) -> Iterator[tuple[str, Row]]:
        """All content that the index knows, in the order of names. Errors: `SpaceError`."""
        self._accounts.settle()
        after = ""
        with _as_space_error(self._folder.path):
            while rows := self._index.current.rows(after, 500):
                yield from rows
                after = rows[-1][0]

    def keep(self, label: str, keys: Iterable[ContentKey]) -> None:
        """Pin content under a label beyond the life of this process, until `release`. Errors: `SpaceError`."""
        self._accounts.settle()
        with _as_space_error(self._folder.path):
            self._index.current.keep(label, [key.name for key in keys])

    def release(self, label: str) -> int:
        """Undo `keep`; returns of how many objects. Errors: `SpaceError`."""
        with _as_space_error(self._folder.path):
            return self._index.current.release(label)

    def check(self, *, quarantine: Path | None = None, repair: bool = True) -> Checked:
        """Read all content and compare it with its checksums; damaged content goes, into `quarantine` if given."""
        self._accounts.settle()
        with _as_space_error(self._folder.path):
            return self._checker.check_all(quarantine=quarantine, repair=repair)

    @property
    def free_bytes(self) -> int:
        """What is free on its partition. Errors: `SpaceError`."""
        with _as_space_error(self._folder.path):
            space = self._folder.free()
            return space.f_bavail * space.f_frsize

    @property
    def processes(self) -> int:
        """How many processes use it now, this one included. Errors: `SpaceError`."""
        with _as_space_error(self._folder.path):
            return self._index.processes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._closing:
            return
        self._behind.close()
        self._closing = True
        self._accounts.wanted.set()
        self._housekeeper.join()
        with self._lock:
            self._held.clear()
        self._accounts.settle()
        self._index.close()
        self._folder.close()

    # What a draft needs.

    def admit(self, name: str, row: Row, content: FileContent) -> FileContent:
        with self._lock:
            self._let_go(name, is_gone=True)
        self._accounts.add(name, row)
        held = self._hold(name, content)
        self._accounts.keep_within_limits()
        return held

    def shelter(self, content: FileContent) -> None:
        content.haunt(self._ledger.ghosts)

    def reserve(self, size_bytes: int) -> None:
        self._accounts.reserve(size_bytes)
        if size_bytes > 0:
            self._accounts.keep_within_limits()

    def make_room(self) -> None:
        self._accounts.make_room()

    # How files come and go.

    def _open_file(self, name: str) -> FileContent | None:
        try:
            try:
                content = self._folder.open(name)
            except OSError as error:
                if error.errno not in NO_DESCRIPTORS:
                    raise
                with self._lock:
                    self._held.clear()
                content = self._folder.open(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cache.unreadable", extra=fields(name=name, error=error.strerror))
            if error.errno in _STALE:
                self._folder.remove(name)
            return None
        return self._hold(name, content)

    def _hold(self, name: str, content: FileContent) -> FileContent:
        """Keep the content's descriptor for the next reader; the oldest ones are let go."""
        with self._lock:
            held = self._held.setdefault(name, content)
            self._live[name] = held
            self._held.move_to_end(name)
            if len(self._held) > self._max_held:
                self._held.popitem(last=False)
            return held

    def _let_go(self, name: str, *, is_gone: bool) -> bool:
        """Hold a file no longer; False when somebody reads it. Concurrency: within the lock."""
        self._held.pop(name, None)
        content = self._live.get(name)
        if content is None:
            return True
        if is_gone:
            del self._live[name]
            content.haunt(self._ledger.ghosts)
        return False

    def _evict_unread(self, name: str) -> bool:
        with self._lock:
            if not self._let_go(name, is_gone=False):
                return False
        self._folder.remove(name)
        return True

    def _discard(self, name: str) -> None:
        """Remove content, also from under its readers."""
        with self._lock:
            self._let_go(name, is_gone=True)
        self._folder.remove(name)
        self._ledger.forget(name)
        with suppress(sqlite3.Error):  # a row too many is set right by the next eviction
            self._index.current.forget(name)

    def _damaged(self, name: str) -> None:
        log.warning("cache.damaged", extra=fields(name=name))
        self._discard(name)

    def _write(self, name: str, content: Waiting) -> None:
        """Write small content; in the writer's thread."""
        self._accounts.keep_within_limits(content.size_bytes)
        write_whole(self._folder, self._draft_name(), name, content.data, make_room=self.make_room)
        with self._lock:
            self._let_go(name, is_gone=True)
        self._accounts.add(name, Row(content.size_bytes, content.rank, checksum(content.data)))

    def _draft_name(self) -> str:
        return f"{self._index.owner}.{next(self._drafts)}"

    def _keep_house(self) -> None:
        while True:
            self._accounts.wanted.wait(SETTLE_EVERY_S)
            self._accounts.wanted.clear()
            if self._closing:
                return
            self._let_go_of_unlinked()
            if self._accounts.keep():
                self._checker.check_some()

    def _let_go_of_unlinked(self) -> None:
        """What another process has evicted takes space until it is let go."""
        with self._lock:
            for name, content in list(self._live.items()):
                if content.is_unlinked:
                    self._let_go(name, is_gone=True)


@contextmanager
def _as_space_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpaceError(
            f"the cache {folder} cannot be used: {reason}",
            advice="name a folder of your own with --cache",
        ) from error
