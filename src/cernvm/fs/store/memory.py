"""The object store in memory: the twin for tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from cernvm.core.errors import NotFoundError, TransactionOpenError
from cernvm.fs.store.names import check_path
from cernvm.fs.store.port import ObjectStatus


class MemoryStore:
    """An `ObjectStore` that lives as long as its process."""

    location = ""
    lanes = 1

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.modified_at: dict[str, datetime] = {}
        self._holder = threading.Lock()

    def put(self, path: str, data: bytes) -> None:
        self.modified_at[check_path(path)] = datetime.now(UTC)
        self.content[path] = bytes(data)

    def replace(self, path: str, data: bytes) -> None:
        self.put(path, data)

    def get(self, path: str) -> bytes:
        try:
            return self.content[check_path(path)]
        except KeyError:
            raise NotFoundError("object", path) from None

    def has(self, path: str) -> bool:
        return check_path(path) in self.content

    def status(self, path: str) -> ObjectStatus | None:
        data = self.content.get(check_path(path))
        return None if data is None else ObjectStatus(len(data), self.modified_at[path])

    def delete(self, *paths: str) -> None:
        for path in paths:
            self.content.pop(check_path(path), None)

    def paths(self, prefix: str = "") -> Iterator[str]:
        return iter([path for path in list(self.content) if path.startswith(prefix)])

    def listing(self, prefix: str = "") -> Iterator[tuple[str, ObjectStatus]]:
        for path in self.paths(prefix):
            if (status := self.status(path)) is not None:
                yield path, status

    @contextmanager
    def exclusive(self, wait_s: float = 0.0) -> Iterator[None]:
        if not self._holder.acquire(timeout=wait_s):
            raise TransactionOpenError("another publisher holds the store")
        try:
            yield
        finally:
            self._holder.release()
