"""Files into objects: read, cut, deflate, name, put; on all cores.

The calling thread reads and cuts large files and hands their chunks to a pool; small files are handed over in batches
and read there. What waits for the pool is bounded in bytes, whatever the tree's size.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from cernvm.core.digest import Algorithm, Digest
from cernvm.fs.format.chunker import ChunkSizes, CutFinder
from cernvm.fs.format.compress import Compression, deflate_content
from cernvm.fs.format.entry import Chunk
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.source import Found, changed, translate
from cernvm.fs.store.port import ObjectStore

_BLOCK_BYTES = 256 << 10
_BATCH_BYTES = 1 << 20
_BATCH_FILES = 64
_WAITING_BYTES = 128 << 20
_WAITING_JOBS = 256


@dataclass(frozen=True, slots=True)
class Content:
    """What a file became: one object, or chunks that join to `size` bytes."""

    size: int
    digest: Digest | None
    chunks: tuple[Chunk, ...] = ()


@dataclass(slots=True)
class Progress:
    """What has been done so far; `on_change` is told after each step, always by the publishing thread."""

    files: int = 0
    read_bytes: int = 0
    stored_objects: int = 0
    stored_bytes: int = 0
    packs: int = 0
    on_change: Callable[[Progress], None] = field(default=lambda _progress: None, repr=False)

    def add_file(self, content: Content) -> None:
        """Count a file that is done, whether it was read or recognised."""
        self.files += 1
        self.read_bytes += content.size
        self.on_change(self)

    def add_pack(self, stored_bytes: int) -> None:
        """Count a pack that was made; of 0 bytes if the store had it."""
        self.packs += 1
        self.add_object(stored_bytes)
        self.on_change(self)

    def add_object(self, stored_bytes: int) -> None:
        """Count an object that was put; 0 for one that was there."""
        self.stored_objects += stored_bytes > 0
        self.stored_bytes += stored_bytes


@dataclass(frozen=True, slots=True)
class _Stored:
    digest: Digest
    written_bytes: int  # 0 where the store had it


Done = Callable[[os.stat_result, Content], None]


class ContentWriter:
    """Stores files' content; `finish` waits for all of them.

    Concurrency: one thread calls it; `done` callbacks run in that thread.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        algorithm: Algorithm,
        compression: Compression,
        sizes: ChunkSizes,
        progress: Progress,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._store = store
        self._algorithm = algorithm
        self._compression = compression
        self._sizes = sizes
        self._progress = progress
        self._pool = pool
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._waiting_bytes = 0
        self._batch: list[tuple[Found, Done]] = []
        self._batch_bytes = 0

    def add(self, found: Found, done: Done) -> None:
        """Store a regular file; `done` is given its final attributes and content, now or later."""
        if found.status.st_size > self._sizes.minimum:
            self._add_large(found, done)
            return
        self._batch.append((found, done))
        self._batch_bytes += found.status.st_size
        if self._batch_bytes >= _BATCH_BYTES or len(self._batch) >= _BATCH_FILES:
            self._hand_over()

    def finish(self) -> None:
        """Wait until everything that was added is stored."""
        self._hand_over()
        while self._waiting:
            self._collect()

    def _hand_over(self) -> None:
        batch, size = self._batch, self._batch_bytes
        if not batch:
            return
        self._batch, self._batch_bytes = [], 0
        future = self._pool.submit(self._store_small, [found for found, _ in batch])

        def collect() -> None:
            for (_, done), (status, content, stored) in zip(batch, future.result(), strict=True):
                self._progress.add_object(stored.written_bytes)
                self._progress.add_file(content)
                done(status, content)

        self._wait_for(size, collect)

    def _add_large(self, found: Found, done: Done) -> None:
        waiting: list[tuple[int, int, Future[_Stored]]] = []
        with opened(found) as (descriptor, status):
            for offset, piece, is_only in _cut(_blocks(found, descriptor), self._sizes):
                kind = ObjectKind.PLAIN if is_only else ObjectKind.PARTIAL
                future = self._pool.submit(self._store_object, piece, kind)
                waiting.append((offset, len(piece), future))
                self._wait_for(len(piece), partial(_settle, future))
            check_unchanged(found, descriptor, status)

        def collect() -> None:
            stored = [(offset, size, future.result()) for offset, size, future in waiting]
            for _, _, one in stored:
                self._progress.add_object(one.written_bytes)
            content = _join(stored)
            self._progress.add_file(content)
            done(status, content)

        self._wait_for(0, collect)

    def _store_small(self, batch: Sequence[Found]) -> list[tuple[os.stat_result, Content, _Stored]]:
        """In the pool: read and store whole files."""
        results = []
        for found in batch:
            with opened(found) as (descriptor, status):
                data = b"".join(_blocks(found, descriptor))
                check_unchanged(found, descriptor, status)
            stored = self._store_object(data, ObjectKind.PLAIN)
            results.append((status, Content(len(data), stored.digest), stored))
        return results

    def _store_object(self, data: bytes, kind: ObjectKind) -> _Stored:
        """In the pool: deflate, name and put."""
        deflated = deflate_content(data, self._compression)
        digest = self._algorithm.digest(deflated)
        path = object_path(digest, kind)
        if self._store.has(path):
            return _Stored(digest, 0)
        self._store.put(path, deflated)
        return _Stored(digest, len(deflated))

    def _wait_for(self, size_bytes: int, collect: Callable[[], None]) -> None:
        """Queue what must be collected in order; collect the oldest while too much waits."""
        self._waiting.append((size_bytes, collect))
        self._waiting_bytes += size_bytes
        while self._waiting_bytes > _WAITING_BYTES or len(self._waiting) > _WAITING_JOBS:
            self._collect()

    def _collect(self) -> None:
        size_bytes, collect = self._waiting.popleft()
        self._waiting_bytes -= size_bytes
        collect()


@contextmanager
def opened(found: Found) -> Iterator[tuple[int, os.stat_result]]:
    """A source file, open for reading, if it still is the file that the walk found."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(found.place, flags)
    except OSError as exc:
        raise translate(exc, found.place) from exc
    try:
        status = os.fstat(descriptor)
        seen = found.status
        if (status.st_dev, status.st_ino) != (seen.st_dev, seen.st_ino):
            raise changed(found.place)
        yield descriptor, status
    finally:
        os.close(descriptor)


def check_unchanged(found: Found, descriptor: int, before: os.stat_result) -> None:
    """Refuse a file that was written to while it was read: its object would be a mixture."""
    after = os.fstat(descriptor)
    for status in (before, found.status):
        if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            raise changed(found.place)


def _blocks(found: Found, descriptor: int) -> Iterator[bytes]:
    """A file's content; never more than the size it had, however fast it grows."""
    left = found.status.st_size
    try:
        while left > 0 and (block := os.read(descriptor, min(_BLOCK_BYTES, left))):
            left -= len(block)
            yield block
    except OSError as exc:
        raise translate(exc, found.place) from exc
    if left:
        raise changed(found.place)


def _cut(blocks: Iterator[bytes], sizes: ChunkSizes) -> Iterator[tuple[int, bytes, bool]]:
    """The pieces of a file: offset, bytes, and whether it is the only one."""
    finder = CutFinder(sizes)
    piece = bytearray()
    position = 0  # of the piece
    for block in blocks:
        read = position + len(piece)
        piece += block
        for mark in finder.feed(block):
            head = mark - position
            yield position, bytes(piece[:head]), False
            del piece[:head]
            position = mark
        assert position + len(piece) == read + len(block)
    yield position, bytes(piece), position == 0


def _join(stored: Sequence[tuple[int, int, _Stored]]) -> Content:
    size = sum(length for _, length, _ in stored)
    if len(stored) == 1:
        return Content(size, stored[0][2].digest)
    chunks = tuple(Chunk(offset, length, one.digest) for offset, length, one in stored)
    return Content(size, None, chunks)


def _settle(future: Future[_Stored]) -> None:
    future.result()
