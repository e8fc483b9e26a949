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
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from weakref import WeakValueDictionary

from cernvm.core.errors import CvmError, SpaceError
from cernvm.core.log import fields
from cernvm.fs.cache.behind import Waiting, WriteBehind
from cernvm.fs.cache.checking import Checked, Checker
from cernvm.fs.cache.checksum import checksum
from cernvm.fs.cache.content import FileContent, MemoryContent
from cernvm.fs.cache.draft import FileDraft, write_whole
from cernvm.fs.cache.folder import Folder, own_access
from cernvm.fs.cache.index import MAX_VICTIMS, Row, Summary
from cernvm.fs.cache.ledger import Ledger
from cernvm.fs.cache.opening import OpenIndex
from cernvm.fs.cache.port import Content, ContentKey, Draft, Rank, Usage
from cernvm.fs.cache.quota import Limits, limits

SETTLE_EVERY_S = 5.0
LIMIT_HOLDS_S = 0.5
LIMIT_MARGIN_BYTES = 32_000_000
MAX_HELD = 256

_STALE = (errno.ELOOP, errno.EMEDIUMTYPE, errno.ENXIO, errno.EACCES)
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

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
        self._floor_bytes = free_floor_bytes
        self._lock = threading.Lock()  # guards the tables below, never held over input or output
        self._held: OrderedDict[str, FileContent] = OrderedDict()
        self._live: WeakValueDictionary[str, FileContent] = WeakValueDictionary()
        self._reserved_bytes = 0
        self._drafts = itertools.count(1)
        self._max_held = min(MAX_HELD, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)
        self._ledger = Ledger()
        self._settling = threading.Lock()
        self._wanted = threading.Event()
        self._limit_bytes = 0
        self._limit_ends = 0.0
        self._unfinished: Limits | None = None
        self._closing = False
        with _as_space_error(folder):
            access = own_access(is_readable_by_all=is_readable_by_all)
            self._folder = Folder(folder, access)
            self._index = OpenIndex(self._folder)
        self._checker = Checker(self._folder, self._index, self._damaged)
        self._behind = WriteBehind(self._write, self._discard)
        self._settle()
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
        used_bytes = self._used_bytes()
        limit_bytes = self._quota_bytes
        with suppress(OSError):
            limit_bytes = self._limits(used_bytes).limit_bytes
        return Usage(limit_bytes, used_bytes, self._ledger.pinned_bytes)

    def clean(self, target_bytes: int) -> Usage:
        """Evict until at most `target_bytes` are used, as far as nothing is pinned or being read."""
        self._settle(Limits(target_bytes, target_bytes))
        return self.usage()

    def summary(self) -> Summary:
        """How much there is of what. Errors: `SpaceError` when the index cannot be read."""
        self._settle()
        with _as_space_error(self._folder.path):
            return self._index.current.summary()

    def objects(self) -> Iterator[tuple[str, Row]]:
        """All content that the index knows, in the order of names. Errors: `SpaceError`."""
        self._settle()
        after = ""
        with _as_space_error(self._folder.path):
            while rows := self._index.current.rows(after, 500):
                yield from rows
                after = rows[-1][0]

    def keep(self, label: str, keys: Iterable[ContentKey]) -> None:
        """Pin content under a label beyond the life of this process, until `release`. Errors: `SpaceError`."""
        self._settle()
        with _as_space_error(self._folder.path):
            self._index.current.keep(label, [key.name for key in keys])

    def release(self, label: str) -> int:
        """Undo `keep`; returns of how many objects. Errors: `SpaceError`."""
        with _as_space_error(self._folder.path):
            return self._index.current.release(label)

    def check(self, *, quarantine: Path | None = None, repair: bool = True) -> Checked:
        """Read all content and compare it with its checksums; damaged content goes, into `quarantine` if given."""
        self._settle()
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
        self._wanted.set()
        self._housekeeper.join()
        with self._lock:
            self._held.clear()
        self._settle()
        self._index.close()
        self._folder.close()

    # What a draft needs.

    def admit(self, name: str, row: Row, content: FileContent) -> FileContent:
        with self._lock:
            self._let_go(name, is_gone=True)
        self._note(name, row)
        held = self._hold(name, content)
        self._keep_within_limits()
        return held

    def shelter(self, content: FileContent) -> None:
        content.haunt(self._ledger.ghosts)

    def reserve(self, size_bytes: int) -> None:
        with self._lock:
            self._reserved_bytes += size_bytes
        if size_bytes > 0:
            self._keep_within_limits()

    def make_room(self) -> None:
        used_bytes = self._used_bytes()
        self._settle(Limits(-1, used_bytes - max(used_bytes // 8, 16 << 20)))

    # How files come and go.

    def _open_file(self, name: str) -> FileContent | None:
        try:
            try:
                content = self._folder.open(name)
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
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
        self._keep_within_limits(content.size_bytes)
        write_whole(self._folder, self._draft_name(), name, content.data, make_room=self.make_room)
        with self._lock:
            self._let_go(name, is_gone=True)
        self._note(name, Row(content.size_bytes, content.rank, checksum(content.data)))

    def _draft_name(self) -> str:
        return f"{self._index.owner}.{next(self._drafts)}"

    # How the index hears of it, and what is evicted.

    def _note(self, name: str, row: Row) -> None:
        self._ledger.add(name, row)
        if self._ledger.is_long:
            self._wanted.set()

    def _used_bytes(self) -> int:
        return self._ledger.used_bytes + self._reserved_bytes

    def _limits(self, used_bytes: int) -> Limits:
        return limits(
            self._quota_bytes,
            used_bytes=used_bytes,
            partition=self._folder.free(),
            floor_bytes=self._floor_bytes,
        )

    def _keep_within_limits(self, more_bytes: int = 0) -> None:
        used_bytes = self._used_bytes()
        is_close = used_bytes > self._limit_bytes - LIMIT_MARGIN_BYTES
        is_by_partition = self._limit_bytes != self._quota_bytes
        if time.monotonic() >= self._limit_ends or (is_close and is_by_partition):
            # What this process writes moves from free to used, so the sum nearly holds until others write.
            self._limit_ends = time.monotonic() + LIMIT_HOLDS_S
            with suppress(OSError):
                self._limit_bytes = self._limits(used_bytes).limit_bytes
        if used_bytes + more_bytes > self._limit_bytes:
            self._settle(more_bytes=more_bytes, is_hasty=True)

    def _settle(
        self, wanted: Limits | None = None, *, more_bytes: int = 0, is_hasty: bool = False
    ) -> None:
        """Tell the index all news and evict what is over the limits; what it cannot take now is told again later.

        Who is hasty leaves evicting beyond the limit to the housekeeper.
        """
        with self._settling:
            try:
                bound = wanted or self._limits(self._used_bytes())
                reserved_bytes = self._reserved_bytes + more_bytes
                limit_bytes = bound.limit_bytes - reserved_bytes
                target_bytes = bound.target_bytes - reserved_bytes
                while True:
                    news = self._ledger.take(self._index.owner)
                    try:
                        settled = self._index.settle(
                            news,
                            limit_bytes=limit_bytes,
                            target_bytes=target_bytes,
                            remove=self._evict_unread,
                        )
                    except BaseException:
                        self._ledger.bring_back(news)
                        raise
                    self._ledger.settle(news, settled)
                    if settled.evicted:
                        log.info(
                            "cache.evicted",
                            extra=fields(objects=settled.evicted, used_bytes=settled.used_bytes),
                        )
                    if settled.evicted < MAX_VICTIMS:
                        return
                    if is_hasty and settled.used_bytes <= limit_bytes:
                        self._unfinished = bound
                        self._wanted.set()
                        return
                    limit_bytes = target_bytes
            except (sqlite3.Error, OSError, CvmError) as error:
                log.warning("cache.index_unavailable", extra=fields(error=str(error)))

    def _keep_house(self) -> None:
        while True:
            self._wanted.wait(SETTLE_EVERY_S)
            self._wanted.clear()
            if self._closing:
                return
            with self._lock:
                # Evicted by another process: their space is free once they are let go.
                for name, content in list(self._live.items()):
                    if content.is_unlinked:
                        self._let_go(name, is_gone=True)
            unfinished, self._unfinished = self._unfinished, None
            if unfinished is not None:
                self._settle(Limits(unfinished.target_bytes, unfinished.target_bytes))
            elif self._ledger.has_news:
                self._settle()
                self._checker.check_some()


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
