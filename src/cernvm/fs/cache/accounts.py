"""How much the cache uses and may use, and what has to go: told to the index in batches, kept within the limits.

Source: docs/formats/cache.md, "Quota" and "Index".
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from cernvm.core.errors import CvmError
from cernvm.core.log import fields
from cernvm.fs.cache.folder import Folder
from cernvm.fs.cache.index import MAX_VICTIMS, Row
from cernvm.fs.cache.ledger import Ledger
from cernvm.fs.cache.opening import OpenIndex
from cernvm.fs.cache.port import Usage
from cernvm.fs.cache.quota import Limits, limits

LIMIT_HOLDS_S = 0.5
LIMIT_MARGIN_BYTES = 32_000_000
REST_S = 5.0  # after the index could not be told: no reader waits for it meanwhile
MIN_ROOM_BYTES = 16 << 20

log = logging.getLogger(__name__)


class Accounts:
    """One process's view of the cache's size. Concurrency: safe from any thread.

    `remove` deletes a file, or says False because somebody reads it. `wanted` is set when there is work for the
    housekeeper: see `keep`.
    """

    def __init__(
        self,
        folder: Folder,
        index: OpenIndex,
        *,
        quota_bytes: int,
        floor_bytes: int | None,
        remove: Callable[[str], bool],
    ) -> None:
        self.ledger = Ledger()
        self.wanted = threading.Event()
        self._folder = folder
        self._index = index
        self._quota_bytes = quota_bytes
        self._floor_bytes = floor_bytes
        self._remove = remove
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        self._reserved_bytes = 0
        self._limit_bytes = 0
        self._limit_ends = 0.0
        self._rest_ends = 0.0
        self._unfinished: Limits | None = None

    @property
    def usage(self) -> Usage:
        """How full the cache is, drafts and deleted files that are still read included."""
        used_bytes = self._used_bytes()
        limit_bytes = self._quota_bytes
        with suppress(OSError):
            limit_bytes = self._limits(used_bytes).limit_bytes
        return Usage(limit_bytes, used_bytes, self.ledger.pinned_bytes)

    def add(self, name: str, row: Row) -> None:
        """Count new content."""
        self.ledger.add(name, row)
        if self.ledger.is_long:
            self.wanted.set()

    def reserve(self, size_bytes: int) -> None:
        """Count bytes that a draft has written, or given up with a negative size."""
        with self._lock:
            self._reserved_bytes += size_bytes

    def keep_within_limits(self, more_bytes: int = 0) -> None:
        """Evict if `more_bytes` would be too much: as little as will do, since a reader may be waiting."""
        used_bytes = self._used_bytes()
        is_close = used_bytes > self._limit_bytes - LIMIT_MARGIN_BYTES
        is_by_partition = self._limit_bytes != self._quota_bytes
        if time.monotonic() >= self._limit_ends or (is_close and is_by_partition):
            # What this process writes moves from free to used, so the sum nearly holds until others write.
            self._limit_ends = time.monotonic() + LIMIT_HOLDS_S
            with suppress(OSError):
                self._limit_bytes = self._limits(used_bytes).limit_bytes
        if used_bytes + more_bytes > self._limit_bytes and time.monotonic() >= self._rest_ends:
            self.settle(more_bytes=more_bytes, is_hasty=True)

    def make_room(self) -> None:
        """Evict an eighth because the disk is full."""
        used_bytes = self._used_bytes()
        self.settle(Limits(-1, used_bytes - max(used_bytes // 8, MIN_ROOM_BYTES)))

    def keep(self) -> bool:
        """The housekeeper's turn: finish what the hasty left, tell what is new; True when there was news."""
        unfinished, self._unfinished = self._unfinished, None
        if unfinished is not None:
            self.settle(Limits(unfinished.target_bytes, unfinished.target_bytes))
            return False
        if self.ledger.has_news:
            self.settle()
            return True
        return False

    def settle(
        self, wanted: Limits | None = None, *, more_bytes: int = 0, is_hasty: bool = False
    ) -> None:
        """Tell the index all news and evict what is over the limits; what it cannot take now is told again later."""
        with self._settling:
            if is_hasty and time.monotonic() < self._rest_ends:
                return
            try:
                bound = wanted or self._limits(self._used_bytes())
                reserved_bytes = self._reserved_bytes + more_bytes
                limit_bytes = bound.limit_bytes - reserved_bytes
                target_bytes = bound.target_bytes - reserved_bytes
                while self._settle_once(limit_bytes, target_bytes) >= MAX_VICTIMS:
                    if is_hasty and self.ledger.used_bytes <= limit_bytes:
                        self._unfinished = bound
                        self.wanted.set()
                        return
                    limit_bytes = target_bytes
            except (sqlite3.Error, OSError, CvmError) as error:
                self._rest_ends = time.monotonic() + REST_S
                log.warning("cache.index_unavailable", extra=fields(error=str(error)))

    def _settle_once(self, limit_bytes: int, target_bytes: int) -> int:
        news = self.ledger.take(self._index.owner)
        try:
            settled = self._index.settle(
                news, limit_bytes=limit_bytes, target_bytes=target_bytes, remove=self._remove
            )
        except BaseException:
            self.ledger.bring_back(news)
            raise
        self.ledger.settle(news, settled)
        if settled.evicted:
            log.info(
                "cache.evicted",
                extra=fields(objects=settled.evicted, used_bytes=settled.used_bytes),
            )
        return settled.evicted

    def _used_bytes(self) -> int:
        return self.ledger.used_bytes + self._reserved_bytes

    def _limits(self, used_bytes: int) -> Limits:
        return limits(
            self._quota_bytes,
            used_bytes=used_bytes,
            partition=self._folder.free(),
            floor_bytes=self._floor_bytes,
        )
