"""Payloads: packs of objects from a publisher into the store, each verified before it is stored.

Memory is bounded whatever is sent: a payload holds one object, or as many as the store takes at once, and all payloads
together share a `Budget`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from cernvm.core.errors import DigestMismatchError, FormatError, InvalidInputError, UnavailableError
from cernvm.fs.format.compress import Compression, Inflater
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.gateway.object_pack import SentObject, header_digest, parse_pack_header
from cernvm.fs.gateway.protocol import PayloadRequest
from cernvm.fs.store.port import ObjectStore

MAX_OBJECT_BYTES = 1 << 30
BUDGET_BYTES = 2 << 30
_BUDGET_WAIT_S = 60.0
_BLOCK_BYTES = 1 << 20
_SMALL_CATALOG_BYTES = 4 << 20
_MOST_RATIO = 50
_FEW_LANES = 2

# At most so many bytes of the body; fewer only at its end.
Read = Callable[[int], bytes]


class Budget:
    """Bytes that all payloads together may hold."""

    def __init__(self, size_bytes: int = BUDGET_BYTES) -> None:
        self._left_bytes = self._size_bytes = size_bytes
        self._changed = threading.Condition()

    def take(self, size_bytes: int) -> None:
        """Hold so many more; `UnavailableError` where others hold them for too long."""
        with self._changed:
            wanted = min(size_bytes, self._size_bytes)
            if not self._changed.wait_for(lambda: self._left_bytes >= wanted, _BUDGET_WAIT_S):
                raise UnavailableError("too much is sent at once", retry_after_s=_BUDGET_WAIT_S)
            self._left_bytes -= wanted

    def give(self, size_bytes: int) -> None:
        """Hold so many fewer."""
        with self._changed:
            self._left_bytes += min(size_bytes, self._size_bytes)
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Received:
    """What a payload brought. Units: `stored_bytes` of objects that the store did not have."""

    objects: int
    stored_objects: int
    stored_bytes: int


def receive_payload(
    request: PayloadRequest, read: Read, store: ObjectStore, *, budget: Budget
) -> Received:
    """Store the objects of a pack; what is read is exactly its header and its objects.

    Errors: `FormatError` and `DigestMismatchError` for a pack that is not what it says; what came before stays in the
    store, where nothing refers to it. Those of the store.
    """
    header = _read_whole(read, request.header_bytes)
    if header_digest(header) != request.header_digest:
        raise DigestMismatchError(
            expected=request.header_digest[:80], got=header_digest(header), source="a pack's header"
        )
    objects = parse_pack_header(header)
    stored: list[int] = []
    with ThreadPoolExecutor(max(1, store.lanes), thread_name_prefix="payload") as pool:
        waiting: deque[Future[int]] = deque()
        for one in objects:
            if one.size_bytes > MAX_OBJECT_BYTES:
                raise InvalidInputError(f"object {one.digest} is larger than a gateway takes")
            while len(waiting) > store.lanes:
                stored.append(waiting.popleft().result())
            waiting.append(pool.submit(_received(one, read, store, budget)))
        stored += [future.result() for future in waiting]
    return Received(len(objects), sum(size > 0 for size in stored), sum(stored))


def missing_objects(paths: Sequence[str], store: ObjectStore) -> list[str]:
    """Of the paths of objects, those that the store lacks."""
    if store.lanes <= _FEW_LANES:  # threads would cost more than the look
        return [path for path in paths if not store.has(path)]
    with ThreadPoolExecutor(max(1, store.lanes), thread_name_prefix="missing") as pool:
        found = pool.map(store.has, paths)
        return [path for path, is_there in zip(paths, found, strict=True) if not is_there]


def _received(one: SentObject, read: Read, store: ObjectStore, budget: Budget) -> Callable[[], int]:
    """The next object, read and verified; what is left to do is to put it."""
    budget.take(one.size_bytes)
    try:
        data = _read_whole(read, one.size_bytes)
        _verify(one, data)
    except BaseException:
        budget.give(one.size_bytes)
        raise

    def put() -> int:
        try:
            path = object_path(one.digest, one.kind)
            if store.has(path):
                return 0
            store.put(path, data)
            return len(data)
        finally:
            budget.give(one.size_bytes)

    return put


def _verify(one: SentObject, data: bytes) -> None:
    got = one.digest.algorithm.digest(data)
    if got != one.digest:
        raise DigestMismatchError(expected=str(one.digest), got=str(got), source="a sent object")
    if one.kind is ObjectKind.CATALOG:
        _check_catalog(data)


def _check_catalog(data: bytes) -> None:
    """Refuse, by `ObjectFormatError`, what would be huge once inflated: catalogs are opened in memory.

    Their digests do not compress, so none becomes ten times larger; a bomb becomes a thousand times.
    """
    limit_bytes = _SMALL_CATALOG_BYTES + _MOST_RATIO * len(data)
    inflater = Inflater(Compression.ZLIB, limit_bytes=limit_bytes)
    for _ in inflater.feed(data):
        pass
    inflater.finish()


def _read_whole(read: Read, size_bytes: int) -> bytes:
    """So many bytes, read in blocks: a size that is only claimed costs no memory."""
    blocks = []
    left = size_bytes
    while left:
        block = read(min(left, _BLOCK_BYTES))
        if not block:
            raise FormatError("ends in the middle", where="payload")
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks)
