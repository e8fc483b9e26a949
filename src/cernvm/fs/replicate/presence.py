"""What a store holds already: asked for one by one where that is cheap, else by listings of its folders."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterable

from cernvm.core.digest import DIGEST_BYTES, Digest
from cernvm.core.errors import FormatError, NotFoundError
from cernvm.core.log import fields
from cernvm.fs.format.objects import ObjectKind, object_path, parse_object_path
from cernvm.fs.store.port import ObjectStore

_CHEAP_LANES = 2  # a store that is worth more requests at once is far away
_REMEMBERED = 200_000

log = logging.getLogger(__name__)


class Presence:
    """Which objects are there; if it `repairs`, all are read, and those that are damaged removed.

    Shape: `doubted` catalogs count as missing until they are put.
    Units: 21 bytes of memory an object where folders are listed, else a bounded number. Concurrency: one thread.
    """

    def __init__(
        self, store: ObjectStore, *, repairs: bool = False, doubted: Iterable[Digest] = ()
    ) -> None:
        self.doubted = set(doubted)
        self._store = store
        self._repairs = repairs
        self._lists = store.lanes > _CHEAP_LANES and not repairs
        self._folders: dict[int, bytes] = {}
        self._seen: set[bytes] = set()

    def has(self, digest: Digest, kind: ObjectKind) -> bool:
        """Whether the store holds an object; one that is known to be there is not asked for again."""
        if kind is ObjectKind.CATALOG and digest in self.doubted:
            return False
        name = _name(digest, kind)
        if name in self._seen:
            return True
        if not self._has(digest, kind, name):
            return False
        self.add(digest, kind)
        return True

    def add(self, digest: Digest, kind: ObjectKind) -> None:
        """State that an object was put."""
        if kind is ObjectKind.CATALOG:
            self.doubted.discard(digest)
        if len(self._seen) >= _REMEMBERED and not self._lists:
            self._seen.clear()
        self._seen.add(_name(digest, kind))

    def _has(self, digest: Digest, kind: ObjectKind, name: bytes) -> bool:
        if self._repairs:
            return self._is_good(digest, object_path(digest, kind))
        if not self._lists:
            return self._store.has(object_path(digest, kind))
        folder = self._folders.get(digest.raw[0])
        if folder is None:
            folder = self._folders[digest.raw[0]] = self._listed(digest.raw[0])
        width = len(name)
        at = bisect.bisect_left(
            range(len(folder) // width), name, key=lambda n: folder[n * width : (n + 1) * width]
        )
        return folder[at * width : (at + 1) * width] == name

    def _is_good(self, digest: Digest, path: str) -> bool:
        try:
            stored = self._store.get(path)
        except NotFoundError:
            return False
        if digest.algorithm.digest(stored) == digest:
            return True
        log.warning("replicate.damaged", extra=fields(path=path))
        self._store.delete(path)
        return False

    def _listed(self, first: int) -> bytes:
        """The names in one folder of the store, sorted, back to back."""
        names = []
        for path in self._store.paths(f"data/{first:02x}/"):
            try:
                names.append(_name(*parse_object_path(path)))
            except FormatError:
                continue  # not ours
        return b"".join(sorted(names))


def _name(digest: Digest, kind: ObjectKind) -> bytes:
    """Digest, algorithm and kind, in as many bytes for each."""
    assert len(digest.raw) == DIGEST_BYTES
    return digest.raw + bytes((digest.algorithm.flag << 5 | _NUMBERS[kind],))


_NUMBERS = {kind: number for number, kind in enumerate(ObjectKind)}
