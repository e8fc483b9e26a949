"""The catalogs of a draft, each a file that is loaded when it is looked into; few are open at a time."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from cernvm.core.digest import Digest
from cernvm.core.errors import CatalogFormatError
from cernvm.fs.format.catalog import path_key
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.statistics import Counters
from cernvm.fs.publish.draft.fetching import Fetcher
from cernvm.fs.publish.draft.loading import create_catalog, load_catalog, migrate, open_catalog
from cernvm.fs.publish.draft.rows import Rows
from cernvm.fs.store.port import ObjectStore

_MOST_OPEN = 6


@dataclass(eq=False, slots=True)
class DraftCatalog:
    """One catalog of a draft.

    Shape: `digest` is the object that it was loaded from, None for one that is made here; `counted` what its parent
    counts for it and all below; `gained` what nested catalogs that came or went since add to its subtree;
    `walked_to` the nested one that was last loaded, and `order` all that there were when the first one was.
    """

    prefix: bytes
    digest: Digest | None
    parent: DraftCatalog | None
    path: Path
    nested: dict[bytes, NestedCatalog] = field(default_factory=dict)
    loaded: dict[bytes, DraftCatalog] = field(default_factory=dict)
    counted: Counters = field(default_factory=Counters)
    gained: Counters = field(default_factory=Counters)
    is_touched: bool = False
    walked_to: bytes = b""
    order: tuple[NestedCatalog, ...] = ()

    @property
    def depth(self) -> int:
        """In how many others it is nested."""
        return 0 if self.parent is None else 1 + self.parent.depth

    def touch(self) -> None:
        """Have this catalog, and so all above it, written anew."""
        one: DraftCatalog | None = self
        while one is not None and not one.is_touched:
            one.is_touched = True
            one = one.parent


class Shelf:
    """Opens catalogs, and closes those that were not used for long; an untouched one's file goes as well."""

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        self._fetcher = Fetcher(store)
        self._folder = folder
        self._open: OrderedDict[DraftCatalog, Rows] = OrderedDict()
        self._last: tuple[DraftCatalog | None, Rows | None] = (None, None)
        self._numbers = count()

    def close(self) -> None:
        """Close all; their files are the workshop's to remove."""
        self._fetcher.close()
        self._last = (None, None)
        while self._open:
            self._open.popitem()[1].database.close()

    def load(self, prefix: bytes, digest: Digest, parent: DraftCatalog | None) -> DraftCatalog:
        """The catalog of an object, which must be of this path."""
        made = DraftCatalog(prefix, digest, parent, self._place())
        rows = self.rows(made)
        statistics = rows.statistics()
        made.counted = statistics.total
        made.nested = {nested.path: nested for nested in rows.nested()}
        found = rows.property("root_prefix") or b""
        if found != prefix:
            raise CatalogFormatError("is of another path", where=f"catalog of {prefix[:80]!r}")
        if rows.find(path_key(prefix)) is None:
            raise CatalogFormatError("it has no root entry", where=f"catalog of {prefix[:80]!r}")
        return made

    def nested(self, parent: DraftCatalog, nested: NestedCatalog) -> DraftCatalog:
        """A nested catalog as it stands in the draft."""
        known = parent.loaded.get(nested.path)
        if known is None:
            self._note_walk(parent, nested.path)
            known = self.load(nested.path, nested.digest, parent)
            parent.loaded[nested.path] = known
        return known

    def create(self, prefix: bytes, parent: DraftCatalog) -> DraftCatalog:
        """An empty catalog, for a path whose rows are still in its parent."""
        made = DraftCatalog(prefix, None, parent, self._place(), is_touched=True)
        create_catalog(made.path)
        return made

    def rows(self, catalog: DraftCatalog) -> Rows:
        """The rows of a catalog; of use until the next call for another one."""
        last, rows = self._last
        if last is catalog and rows is not None:
            return rows
        found = self._open.get(catalog)
        if found is None:
            found = self._open[catalog] = self._opened(catalog)
            if len(self._open) > _MOST_OPEN:
                self._put_back(*self._open.popitem(last=False))
        self._open.move_to_end(catalog)
        self._last = (catalog, found)
        return found

    def let_go(self, catalog: DraftCatalog) -> None:
        """Have everything in the file, and nobody open."""
        rows = self._open.pop(catalog, None)
        if self._last[0] is catalog:
            self._last = (None, None)
        if rows is not None:
            _close(rows)

    def discard(self, catalog: DraftCatalog) -> None:
        """Forget a catalog's file."""
        self.let_go(catalog)
        catalog.path.unlink(missing_ok=True)

    def _note_walk(self, parent: DraftCatalog, path: bytes) -> None:
        """Whoever looks into one nested catalog after the other, in order, will want the next ones too."""
        before, parent.walked_to = parent.walked_to, path
        if not before:
            parent.order = tuple(sorted(parent.nested.values(), key=_path))
        elif before < path:
            self._fetcher.look_ahead(parent.order, path)

    def _opened(self, catalog: DraftCatalog) -> Rows:
        is_fresh = not catalog.path.exists()
        if is_fresh:
            assert catalog.digest is not None
            load_catalog(self._fetcher.fetch(catalog.digest), catalog.digest, catalog.path)
        where = f"catalog of {catalog.prefix[:80]!r}"
        try:
            database = open_catalog(catalog.path)
        except sqlite3.Error as error:
            raise CatalogFormatError(f"no such database: {error}", where=where) from error
        try:
            if is_fresh:
                migrate(database, where=where)
            database.execute("BEGIN")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            database.close()
            raise CatalogFormatError(f"no such database: {error}", where=where) from error
        except BaseException:
            database.close()
            raise
        return Rows(database)

    def _put_back(self, catalog: DraftCatalog, rows: Rows) -> None:
        _close(rows)
        if not catalog.is_touched:
            catalog.path.unlink(missing_ok=True)

    def _place(self) -> Path:
        return self._folder / f"{next(self._numbers)}.db"


def _close(rows: Rows) -> None:
    try:
        if rows.database.in_transaction:
            rows.database.execute("COMMIT")
    finally:
        rows.database.close()


def _path(nested: NestedCatalog) -> bytes:
    return nested.path
