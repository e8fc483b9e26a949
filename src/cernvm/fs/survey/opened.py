"""Catalogs of a store, opened one by one, and trees of them: read with the suspicion that a client has.

A store may hold what somebody else wrote (a gateway's payload, a replica), so these are `reader`'s catalogs, which
check tables, values, names and how long a query runs.
"""

from __future__ import annotations

from collections import OrderedDict

from cernvm.core.digest import Digest
from cernvm.fs.cache import ContentKey, MemoryCache
from cernvm.fs.cache.content import MemoryContent
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.reader.catalog import Catalog
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item
from cernvm.fs.survey.reading import read_object

_MAX_OPEN = 24


def open_catalog(store: ObjectStore, digest: Digest, *, prefix: bytes = b"") -> Catalog:
    """The catalog that describes what is below `prefix`; lives as long as it is held.

    Errors: `NotFoundError`, `CatalogFormatError`, `ObjectFormatError`.
    """
    content = MemoryContent(read_object(store, digest, ObjectKind.CATALOG))
    cache = MemoryCache(quota_bytes=0)
    return Catalog(ContentKey(digest), content, cache, mountpoint=prefix, prefix=prefix)


class Revision:
    """One root catalog and all below it, by path; keeps a few catalogs open.

    Concurrency: one thread. Errors: those of `open_catalog`.
    """

    def __init__(self, store: ObjectStore, root: Digest) -> None:
        self.root = NestedCatalog(b"", root, 0)
        self._store = store
        self._open: OrderedDict[Digest, Catalog] = OrderedDict()

    def catalog(self, nested: NestedCatalog) -> Catalog:
        """A catalog of this revision."""
        known = self._open.get(nested.digest)
        if known is None:
            known = open_catalog(self._store, nested.digest, prefix=nested.path)
            self._open[nested.digest] = known
            while len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(nested.digest)
        return known

    def holder(self, path: bytes) -> NestedCatalog:
        """The catalog that lists what is in the directory at `path`; the deepest on the way where that is none."""
        holder, end = self.root, 0
        while end < len(path):
            slash = path.find(b"/", end + 1)
            end = len(path) if slash < 0 else slash
            nested = self.catalog(holder).nested.get(path[:end])
            if nested is not None:
                holder = nested
        return holder

    def find(self, path: bytes) -> Item | None:
        """What stands at a path; of a nested catalog's mountpoint the root that is below it."""
        catalog = self.catalog(self.holder(path))
        entry = catalog.find(path)
        if entry is None:
            return None
        return Item(path, entry, tuple(sorted(catalog.chunks(path))) if entry.is_chunked else ())

    def listing(self, path: bytes, holder: NestedCatalog) -> list[Item]:
        """The children of a directory in the order of their names, from the catalog that lists them."""
        catalog = self.catalog(holder)
        return [
            Item(
                below := path + b"/" + entry.name,
                entry,
                tuple(sorted(catalog.chunks(below))) if entry.is_chunked else (),
            )
            for entry in sorted(catalog.children(path), key=lambda entry: entry.name)
        ]

    def below(self, path: bytes, holder: NestedCatalog) -> NestedCatalog:
        """The catalog that lists what is in a directory which `holder` lists: a nested one, or the same."""
        return self.catalog(holder).nested.get(path, holder)

    def close(self) -> None:
        """Close its catalogs."""
        self._open.clear()
