"""The tree of a revision's catalogs, with what each of them counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cernvm.core.digest import Digest
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.statistics import Counters, Statistics
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.opened import open_catalog


@dataclass(frozen=True, slots=True)
class CatalogLine:
    """One catalog; `depth` is 0 for the root. Units: `size_bytes` inflated, 0 where nothing says it."""

    catalog: NestedCatalog
    depth: int
    statistics: Statistics
    packs: int

    @property
    def entries(self) -> int:
        """Paths that it lists itself."""
        own = self.statistics.own
        return own.regular + own.symlink + own.special + own.dir


def count_contents(store: ObjectStore, root: Digest) -> Counters:
    """What a revision holds in all, by the counters of its root catalog; errors as `open_catalog`."""
    return open_catalog(store, root).statistics().total


def list_catalogs(
    store: ObjectStore, root: Digest, *, size_bytes: int = 0
) -> Iterator[CatalogLine]:
    """The catalogs of a revision in the order of their paths; errors as `open_catalog`."""
    waiting = [(NestedCatalog(b"", root, size_bytes), 0)]
    while waiting:
        nested, depth = waiting.pop()
        catalog = open_catalog(store, nested.digest, prefix=nested.path)
        table = catalog.packs()
        packs = 0 if table is None else len(table.stretches)
        yield CatalogLine(nested, depth, catalog.statistics(), packs)
        below = sorted(catalog.nested.values(), key=lambda one: one.path, reverse=True)
        waiting += [(one, depth + 1) for one in below]
