"""Single paths of a revision that is being written: its root catalog is at hand, those below are in the store."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass

from cernvm.core.digest import Digest
from cernvm.core.errors import CatalogFormatError
from cernvm.fs.format import catalog as rows
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Catalog, Item, open_database
from cernvm.fs.survey.reading import read_object

_MAX_OPEN = 16
_MAX_DEPTH = 256


@dataclass(frozen=True, slots=True)
class Found:
    """What stands at a path, and the nested catalogs on the way to it, the uppermost first."""

    item: Item
    catalogs: tuple[NestedCatalog, ...]


class Finder:
    """Finds paths; keeps a few catalogs open until it is closed.

    Errors: `NotFoundError` and `CatalogFormatError` where the store lost or damaged a catalog.
    """

    def __init__(self, root: Catalog, store: ObjectStore) -> None:
        self._root = {item.path: item for item in root.items}
        self._below = {nested.path: nested for nested in root.nested}
        self._store = store
        self._open: OrderedDict[Digest, _OpenCatalog] = OrderedDict()

    def close(self) -> None:
        """Close all catalogs."""
        while self._open:
            self._open.popitem()[1].close()

    def find(self, path: bytes) -> Found | None:
        """The path, in the catalog that lists it; None where there is none."""
        chain: list[NestedCatalog] = []
        below = self._below
        while (nested := _next(below, path, chain)) is not None:
            if len(chain) > _MAX_DEPTH:
                raise CatalogFormatError("catalogs are nested too deep", where=repr(path[:80]))
            chain.append(nested)
            below = self._opened(nested).nested
        item = self._opened(chain[-1]).find(path) if chain else self._root.get(path)
        return None if item is None else Found(item, tuple(chain))

    def _opened(self, nested: NestedCatalog) -> _OpenCatalog:
        known = self._open.get(nested.digest)
        if known is None:
            data = read_object(self._store, nested.digest, ObjectKind.CATALOG)
            known = self._open[nested.digest] = _OpenCatalog(data)
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(nested.digest)
        return known


class _OpenCatalog:
    """A nested catalog's database in memory."""

    def __init__(self, data: bytes) -> None:
        with ExitStack() as stack:
            self._database = stack.enter_context(open_database(data, "catalog"))
            properties = rows.parse_properties(self._select(rows.SELECT_PROPERTIES))
            self._columns = rows.entry_columns(properties.schema_revision)
            columns = rows.nested_columns(properties.schema_revision)
            listed = self._select(f"SELECT {columns} FROM nested_catalogs")  # noqa: S608
            self.nested = {nested.path: nested for nested in map(rows.parse_nested, listed)}
            self.close = stack.pop_all().close

    def find(self, path: bytes) -> Item | None:
        key = rows.path_key(path)
        where = "md5path_1 = ? AND md5path_2 = ?"
        found = self._select(f"SELECT flags, {self._columns} FROM catalog WHERE {where}", key)  # noqa: S608
        if not found:
            return None
        flags, *row = found[0]
        assert isinstance(flags, int)
        entry = rows.parse_entry(row)
        if not entry.is_chunked:
            return Item(path, entry)
        algorithm = rows.chunk_algorithm(flags)
        chunks = self._select(rows.SELECT_CHUNKS, key)
        return Item(
            path, entry, tuple(sorted(rows.parse_chunk(c, algorithm=algorithm) for c in chunks))
        )

    def _select(self, sql: str, values: tuple[int, ...] = ()) -> list[tuple[object, ...]]:
        try:
            return self._database.execute(sql, values).fetchall()
        except (sqlite3.Error, OverflowError) as error:
            raise CatalogFormatError(f"it cannot be read: {error}", where="catalog") from error


def _next(
    below: dict[bytes, NestedCatalog], path: bytes, chain: list[NestedCatalog]
) -> NestedCatalog | None:
    """The nested catalog that the path lies in, and not only its mountpoint."""
    end = len(chain[-1].path) if chain else 0
    folder = path.rpartition(b"/")[0]
    while end < len(folder):
        slash = folder.find(b"/", end + 1)
        end = len(folder) if slash < 0 else slash
        if (nested := below.get(folder[:end])) is not None:
            return nested
    return None
