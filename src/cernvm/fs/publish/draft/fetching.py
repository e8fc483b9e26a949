"""Catalogs out of the store; from one that is far away, those that a walk will come to next are asked for ahead."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from cernvm.core.digest import Digest
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.store.port import ObjectStore

_FEW_LANES = 2
_MOST_AHEAD = 2  # for each lane, since a walk goes into the first one before it comes to the second


class Fetcher:
    """Fetches catalogs as they are stored; closed, it gives up those that nobody asked for."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._ahead: dict[Digest, Future[bytes]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """End all fetching."""
        self._ahead.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def fetch(self, digest: Digest) -> bytes:
        """A stored catalog."""
        coming = self._ahead.pop(digest, None)
        return self._get(digest) if coming is None else coming.result()

    def look_ahead(self, siblings: Sequence[NestedCatalog], path: bytes) -> None:
        """Have those come that follow `path` among the nested catalogs of a parent, which are in path order."""
        if self._store.lanes <= _FEW_LANES:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._store.lanes, thread_name_prefix="catalogs-ahead")
        at = bisect.bisect_right(siblings, path, key=_path)
        for nested in siblings[at : at + self._store.lanes]:
            if len(self._ahead) >= _MOST_AHEAD * self._store.lanes:
                return
            if nested.digest not in self._ahead:
                self._ahead[nested.digest] = self._pool.submit(self._get, nested.digest)

    def _get(self, digest: Digest) -> bytes:
        return self._store.get(object_path(digest, ObjectKind.CATALOG))


def _path(nested: NestedCatalog) -> bytes:
    return nested.path
