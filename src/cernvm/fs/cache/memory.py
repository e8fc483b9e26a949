"""The cache's twin in memory."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.errors import SpaceError
from cernvm.fs.cache.port import Content, ContentKey, Draft, Rank, Usage


@dataclass(frozen=True, slots=True)
class MemoryContent:
    """Content as bytes."""

    data: bytes
    path: Path | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def pread(self, offset: int, size_bytes: int) -> bytes:
        return self.data[offset : offset + size_bytes]


class MemoryCache:
    """A `Cache` for one process, gone with it."""

    def __init__(self, *, quota_bytes: int = 1 << 30) -> None:
        self._quota_bytes = quota_bytes
        self._contents: OrderedDict[str, MemoryContent] = OrderedDict()
        self._pins: Counter[str] = Counter()
        self._lock = threading.RLock()  # an unpin may come while this thread is at work here

    def open(self, key: ContentKey) -> Content | None:
        with self._lock:
            content = self._contents.get(key.name)
            if content is not None:
                self._contents.move_to_end(key.name)
            return content

    def put_small(self, key: ContentKey, data: bytes, *, rank: Rank = Rank.REGULAR) -> Content:  # noqa: ARG002
        content = MemoryContent(data)
        if len(data) <= self._quota_bytes:
            self.admit(key.name, content)
        return content

    def draft(self, key: ContentKey, *, rank: Rank = Rank.REGULAR) -> Draft:  # noqa: ARG002
        return _MemoryDraft(self, key.name, self._quota_bytes)

    def pin(self, key: ContentKey) -> None:
        with self._lock:
            self._pins[key.name] += 1

    def unpin(self, key: ContentKey) -> None:
        with self._lock:
            self._pins[key.name] -= 1
            self._pins += Counter()  # drops the zeros

    def evict(self, key: ContentKey) -> None:
        with self._lock:
            self._contents.pop(key.name, None)

    def usage(self) -> Usage:
        with self._lock:
            pinned = sum(
                self._contents[name].size_bytes for name in self._pins if name in self._contents
            )
            return Usage(self._quota_bytes, self._used_bytes(), pinned)

    def close(self) -> None:
        """Nothing is open."""

    def admit(self, name: str, content: MemoryContent) -> None:
        """Take content in and evict what no longer fits; for drafts."""
        with self._lock:
            self._contents[name] = content
            if self._used_bytes() > self._quota_bytes:
                for other in [n for n in self._contents if n != name and n not in self._pins]:
                    del self._contents[other]
                    if self._used_bytes() <= self._quota_bytes // 2:
                        break

    def _used_bytes(self) -> int:
        return sum(content.size_bytes for content in self._contents.values())


class _MemoryDraft:
    """Content that is being collected."""

    def __init__(self, cache: MemoryCache, name: str, quota_bytes: int) -> None:
        self._cache = cache
        self._name = name
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
        self._cache.admit(self._name, content)
        return content

    def discard(self) -> None:
        self._parts.clear()
