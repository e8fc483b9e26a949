"""The object store in memory: the twin for tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cernvm.core.errors import NotFoundError, TransactionOpenError
from cernvm.fs.store.names import check_path


class MemoryStore:
    """An `ObjectStore` that lives as long as its process."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self._holder = threading.Lock()

    def put(self, path: str, data: bytes) -> None:
        self.content[check_path(path)] = bytes(data)

    def replace(self, path: str, data: bytes) -> None:
        self.put(path, data)

    def get(self, path: str) -> bytes:
        try:
            return self.content[check_path(path)]
        except KeyError:
            raise NotFoundError("object", path) from None

    def has(self, path: str) -> bool:
        return check_path(path) in self.content

    def paths(self, prefix: str = "") -> Iterator[str]:
        return iter([path for path in list(self.content) if path.startswith(prefix)])

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        if not self._holder.acquire(blocking=False):
            raise TransactionOpenError("another publisher holds the store")
        try:
            yield
        finally:
            self._holder.release()
