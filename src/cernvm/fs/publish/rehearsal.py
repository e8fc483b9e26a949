"""A store to rehearse in: reads come from the real one, writes go nowhere but into the account.

Catalogs are kept in a temporary folder, since what a revision would change is found by comparing two of them; of other
objects the first few small ones, which a publication may read back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from cernvm.fs.format.objects import ObjectKind, parse_object_path
from cernvm.fs.store.local import LocalStore
from cernvm.fs.store.port import ObjectStatus, ObjectStore

_KEPT_BYTES = 32 << 20


class RehearsalStore:
    """An `ObjectStore` over another one, which it leaves as it is; `folder` is its owner's to remove."""

    location = ""  # no other process can open it
    lanes = 1

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        self._store = store
        self._catalogs = LocalStore(folder)
        self._kept: dict[str, bytes] = {}
        self._kept_bytes = 0
        self._put: set[int] = set()  # hashes of paths: a rehearsal of a million files stays small
        self._lock = threading.Lock()

    def put(self, path: str, data: bytes) -> None:
        kind = parse_object_path(path)[1]
        if kind is ObjectKind.CATALOG:
            self._catalogs.put(path, data)
        with self._lock:
            self._put.add(hash(path))
            if kind is ObjectKind.PLAIN and self._kept_bytes + len(data) <= _KEPT_BYTES:
                self._kept[path] = data
                self._kept_bytes += len(data)

    def replace(self, path: str, data: bytes) -> None:
        raise AssertionError(f"a rehearsal replaces no {path} by {len(data)} bytes")

    def get(self, path: str) -> bytes:
        if path in self._kept:
            return self._kept[path]
        return (self._catalogs if self._catalogs.has(path) else self._store).get(path)

    def has(self, path: str) -> bool:
        return hash(path) in self._put or self._store.has(path)

    def status(self, path: str) -> ObjectStatus | None:
        return self._catalogs.status(path) or self._store.status(path)

    def delete(self, *paths: str) -> None:
        raise AssertionError(f"a rehearsal deletes no {paths[:1]}")

    def paths(self, prefix: str = "") -> Iterator[str]:
        return self._store.paths(prefix)

    def listing(self, prefix: str = "") -> Iterator[tuple[str, ObjectStatus]]:
        return self._store.listing(prefix)

    def exclusive(self, wait_s: float = 0.0) -> AbstractContextManager[None]:
        return self._store.exclusive(wait_s)
