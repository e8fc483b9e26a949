"""The cache in a folder, shared by all mounts of this machine.

A hit is one open(2) or, for what was read lately, a look into a table: SQLite hears of uses and additions in batches.
Content is written below `txn/` and renamed when complete, so a crash leaves whole files or nothing.
Source: docs/formats/cache.md.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections import Counter, OrderedDict, deque
from contextlib import suppress
from pathlib import Path

from cernvm.core.errors import HostError, SpaceError
from cernvm.core.home import ensure_folder
from cernvm.core.log import fields
from cernvm.fs.cache.draft import FileContent, FileDraft
from cernvm.fs.cache.index import Index, News, Settled, is_damage
from cernvm.fs.cache.memory import MemoryContent
from cernvm.fs.cache.owners import Owner, exclusive, remove_crashed
from cernvm.fs.cache.port import Content, ContentKey, Draft, Rank, Usage

SETTLE_EVERY_S = 5.0
MAX_HELD = 256
MAX_UNSETTLED = 512

log = logging.getLogger(__name__)


class DiskCache:
    """A `Cache` below `folder`.

    Concurrency: also safe from many processes of one machine, but not over a network share.
    """

    def __init__(self, folder: Path, *, quota_bytes: int) -> None:
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._lock = threading.Lock()  # guards the tables below, never held over input or output
        self._held: OrderedDict[str, FileContent] = OrderedDict()
        self._added: dict[str, int] = {}
        self._added_bytes = 0
        self._used: dict[str, None] = {}
        self._pins: Counter[str] = Counter()
        # Without a lock: an unpin comes from wherever a catalog's last user lets go of it.
        self._pin_steps: deque[tuple[str, int]] = deque()
        self._unpinned: dict[str, None] = {}
        self._settled = Settled(0, 0, 0)
        self._drafts = 0
        self._settling = threading.Lock()
        self._closing = threading.Event()
        try:
            self._open_folder()
        except OSError as error:
            raise SpaceError(
                f"the cache {folder} cannot be used: {error.strerror}",
                advice="name a folder of your own with --cache",
            ) from error
        self._settle(quota_bytes, quota_bytes // 2)
        self._housekeeper = threading.Thread(
            target=self._keep_house, name="cache-housekeeper", daemon=True
        )
        self._housekeeper.start()

    def open(self, key: ContentKey) -> Content | None:
        name = key.name
        with self._lock:
            held = self._held.get(name)
            if held is not None:
                self._held.move_to_end(name)
                self._use(name)
                return held
        try:
            content = FileContent(self._folder / name)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cache.unreadable", extra=fields(name=name, error=error.strerror))
            return None
        with self._lock:
            self._use(name)
        return self._hold(name, content)

    def put_small(self, key: ContentKey, data: bytes, *, rank: Rank = Rank.REGULAR) -> Content:
        draft = self.draft(key, rank=rank)
        try:
            draft.write(data)
            return draft.commit()
        except SpaceError:
            draft.discard()
            return MemoryContent(data)

    def draft(self, key: ContentKey, *, rank: Rank = Rank.REGULAR) -> Draft:  # noqa: ARG002
        with self._lock:
            self._drafts += 1
            number = self._drafts
        path = self._folder / "txn" / f"{self._owner.name}.{number}"
        return FileDraft(self, key.name, path, self._folder / key.name, self._quota_bytes)

    def admit(self, name: str, content: FileContent) -> FileContent:
        """Take note of new content, and evict when it made the cache too full; for drafts."""
        with self._lock:
            self._added_bytes += content.size_bytes - self._added.pop(name, 0)
            self._added[name] = content.size_bytes
            self._use(name)
            used_bytes = self._settled.used_bytes + self._added_bytes
            is_due = len(self._added) >= MAX_UNSETTLED or used_bytes > self._quota_bytes
            self._held.pop(name, None)
        self._hold(name, content)
        if is_due:
            self._settle(self._quota_bytes, self._quota_bytes // 2)
        return content

    def make_room(self) -> None:
        """Evict half of everything because the disk is full; for drafts."""
        self._settle(-1, self.usage().used_bytes // 2)

    def pin(self, key: ContentKey) -> None:
        self._pin_steps.append((key.name, 1))

    def unpin(self, key: ContentKey) -> None:
        self._pin_steps.append((key.name, -1))

    def evict(self, key: ContentKey) -> None:
        self._remove(key.name)
        with self._lock:
            self._added_bytes -= self._added.pop(key.name, 0)
        with suppress(sqlite3.Error):  # a row too many is set right by the next eviction
            self._index.forget(key.name)

    def usage(self) -> Usage:
        with self._lock:
            used_bytes = self._settled.used_bytes + self._added_bytes
            return Usage(self._quota_bytes, used_bytes, self._settled.pinned_bytes)

    def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self._housekeeper.join()
        self._settle(self._quota_bytes, self._quota_bytes // 2)
        with suppress(sqlite3.Error):
            self._index.forget_owner(self._owner.name)
        self._index.close()
        self._owner.release()
        with self._lock:
            self._held.clear()

    def _hold(self, name: str, content: FileContent) -> FileContent:
        """Keep the content's descriptor for the next reader; the oldest ones are let go."""
        with self._lock:
            held = self._held.setdefault(name, content)
            self._held.move_to_end(name)
            if len(self._held) > MAX_HELD:
                self._held.popitem(last=False)
            return held

    def _use(self, name: str) -> None:
        """Move a name to the end of the order of use."""
        self._used.pop(name, None)
        self._used[name] = None

    def _settle(self, quota_bytes: int, target_bytes: int) -> None:
        """Tell the index all news; what it cannot take now is told again later."""
        with self._settling:
            news = self._take_news()
            try:
                settled = self._tell(news, quota_bytes, target_bytes)
            except (sqlite3.Error, OSError, HostError) as error:
                log.warning("cache.index_unavailable", extra=fields(error=str(error)))
                with self._lock:
                    self._added = {**news.added, **self._added}
                    self._added_bytes = sum(self._added.values())
                    self._used = dict.fromkeys([*news.used, *self._used])
                    self._unpinned = dict.fromkeys([*news.unpinned, *self._unpinned])
                return
            with self._lock:
                self._settled = settled
            if settled.evicted:
                log.info(
                    "cache.evicted",
                    extra=fields(objects=settled.evicted, used_bytes=settled.used_bytes),
                )

    def _take_news(self) -> News:
        with self._lock:
            self._count_pins()
            news = News(
                self._owner.name,
                self._added,
                list(self._used),
                pinned=list(self._pins),
                unpinned=list(self._unpinned),
            )
            self._added, self._added_bytes, self._used, self._unpinned = {}, 0, {}, {}
            return news

    def _count_pins(self) -> None:
        while self._pin_steps:
            name, step = self._pin_steps.popleft()
            self._pins[name] += step
            if self._pins[name] > 0:
                self._unpinned.pop(name, None)
            else:
                del self._pins[name]
                self._unpinned[name] = None

    def _tell(self, news: News, quota_bytes: int, target_bytes: int) -> Settled:
        if self._index.is_replaced:
            self._rebuild()
        try:
            return self._index.settle(
                news, quota_bytes=quota_bytes, target_bytes=target_bytes, remove=self._remove
            )
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            self._rebuild()
            return self._index.settle(
                news, quota_bytes=quota_bytes, target_bytes=target_bytes, remove=self._remove
            )

    def _remove(self, name: str) -> None:
        with self._lock:
            self._held.pop(name, None)
        with suppress(OSError):
            (self._folder / name).unlink()

    def _keep_house(self) -> None:
        while not self._closing.wait(SETTLE_EVERY_S):
            with self._lock:
                gone = [name for name, content in self._held.items() if content.is_unlinked]
                for (
                    name
                ) in gone:  # evicted by another process: their space is free once they are let go
                    del self._held[name]
                has_news = bool(self._added or self._used or self._unpinned or self._pin_steps)
            if has_news:
                self._settle(self._quota_bytes, self._quota_bytes // 2)

    def _open_folder(self) -> None:
        ensure_folder(self._folder, mode=0o700)
        owners, drafts = self._folder / "owners", self._folder / "txn"
        ensure_folder(owners, mode=0o700)
        ensure_folder(drafts, mode=0o700)
        with exclusive(self._folder):
            crashed = remove_crashed(owners)
            self._owner = Owner(owners)
            living = {path.name for path in owners.iterdir()}
            for path in drafts.iterdir():
                if path.name.partition(".")[0] not in living:
                    path.unlink(missing_ok=True)
            self._index = self._open_index()
            for process in crashed:
                self._index.forget_owner(process.owner)
            if crashed or self._index.is_new:
                power_was_lost = any(process.power_was_lost for process in crashed)
                self._reconcile(trust_unknown=not power_was_lost)

    def _open_index(self) -> Index:
        path = self._folder / "index"
        try:
            return Index(path)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise HostError(
                    str(path), f"the cache's index cannot be opened: {error}"
                ) from error
            log.warning("cache.index_damaged", extra=fields(error=str(error)))
            self._remove_index()
            return Index(path)

    def _rebuild(self) -> None:
        """Open the index anew after this or another process found it damaged, or somebody removed the folder."""
        ensure_folder(self._folder, mode=0o700)
        with exclusive(self._folder):
            is_replaced = self._index.is_replaced
            self._index.close()
            if not is_replaced:
                log.warning("cache.index_damaged", extra=fields(folder=str(self._folder)))
                self._remove_index()
            self._index = self._open_index()
            if self._index.is_new:
                self._reconcile(trust_unknown=True)

    def _remove_index(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            (self._folder / f"index{suffix}").unlink(missing_ok=True)

    def _reconcile(self, *, trust_unknown: bool) -> None:
        for name in self._index.reconcile(self._files(), trust_unknown=trust_unknown):
            log.warning("cache.file_distrusted", extra=fields(name=name))
            self._remove(name)

    def _files(self) -> dict[str, int]:
        """All content files: name and size."""
        found: dict[str, int] = {}
        for folder in self._folder.iterdir():
            if len(folder.name) == 2 and folder.is_dir():
                with os.scandir(folder) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):
                            found[f"{folder.name}/{entry.name}"] = entry.stat().st_size
        return found
