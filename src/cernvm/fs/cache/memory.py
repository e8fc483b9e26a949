"""The cache's twin in memory, which is also a cache for machines without a disk to spare."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict

from cernvm.core.errors import SpaceError
from cernvm.fs.cache.content import MemoryContent
from cernvm.fs.cache.port import Content, ContentKey, Draft, Rank, Usage


class MemoryCache:
    """A `Cache` for one process, gone with it."""

    def __init__(self, *, quota_bytes: int = 1 << 30) -> None:
        self._quota_bytes = quota_bytes
        # One table per rank, each in the order of use, so that what goes first is found at once.
        self._contents: dict[Rank, OrderedDict[str, MemoryContent]] = {
            rank: OrderedDict() for rank in Rank
        }
        self._used_bytes = 0
        self._pins: Counter[str] = Counter()
        self._lock = threading.RLock()  # an unpin may come while this thread is at work here

    def open(self, key: ContentKey) -> Content | None:
        name = key.name
        with self._lock:
            for rank, contents in self._contents.items():
                content = contents.get(name)
                if content is not None:
                    if rank is Rank.AHEAD:
                        del contents[name]
                        self._contents[Rank.REGULAR][name] = content
                    else:
                        contents.move_to_end(name)
                    return content
        return None

    def draft(self, key: ContentKey, *, rank: Rank = Rank.REGULAR) -> Draft:
        return _MemoryDraft(self, key.name, rank, self._quota_bytes)

    def put_small(self, key: ContentKey, data: bytes, *, rank: Rank = Rank.REGULAR) -> Content:
        content = MemoryContent(data)
        if len(data) <= self._quota_bytes:
            self.admit(key.name, content, rank)
        return content

    def pin(self, key: ContentKey) -> None:
        with self._lock:
            self._pins[key.name] += 1

    def unpin(self, key: ContentKey) -> None:
        with self._lock:
            self._pins[key.name] -= 1
            if self._pins[key.name] <= 0:
                del self._pins[key.name]

    def evict(self, key: ContentKey) -> None:
        with self._lock:
            self._drop(key.name)

    def usage(self) -> Usage:
        with self._lock:
            pinned = sum(
                contents[name].size_bytes
                for contents in self._contents.values()
                for name in self._pins
                if name in contents
            )
            return Usage(self._quota_bytes, self._used_bytes, pinned)

    def close(self) -> None:
        """Nothing is open."""

    def admit(self, name: str, content: MemoryContent, rank: Rank) -> None:
        """Take content in and evict what no longer fits; for drafts."""
        with self._lock:
            self._drop(name)
            self._contents[rank][name] = content
            self._used_bytes += content.size_bytes
            if self._used_bytes > self._quota_bytes:
                self._evict_half(name)

    def _evict_half(self, newest: str) -> None:
        for contents in self._contents.values():
            for name in list(contents):
                if self._used_bytes <= self._quota_bytes // 2:
                    return
                if name != newest and name not in self._pins:
                    self._drop(name)

    def _drop(self, name: str) -> None:
        for contents in self._contents.values():
            content = contents.pop(name, None)
            self._used_bytes -= content.size_bytes if content else 0


class _MemoryDraft:
    """Content that is being collected."""

    def __init__(self, cache: MemoryCache, name: str, rank: Rank, quota_bytes: int) -> None:
        self._cache = cache
        self._name = name
        self._rank = rank
        self._quota_bytes = quota_bytes
        self._parts: list[bytes] = []
        self._size_bytes = 0

    def write(self, data: bytes, /) -> None:
        self._size_bytes += len(data)
        if self._size_bytes > self._quota_bytes:
            raise SpaceError(
                f"content is larger than the cache's quota of {self._quota_bytes} bytes"
            )
        self._parts.append(data)

    def commit(self) -> Content:
        content = MemoryContent(b"".join(self._parts))
        self._cache.admit(self._name, content, self._rank)
        return content

    def discard(self) -> None:
        self._parts.clear()
