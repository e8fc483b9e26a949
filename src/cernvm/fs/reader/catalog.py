"""One catalog: the entries of one subtree, in an SQLite file that is read with suspicion.

A catalog is signed, yet whoever signed it may be careless or hostile to this machine: its tables must be plain tables,
its values of the right kind, its names plain names that belong where they stand, and no query may run for ever.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cernvm.core.digest import Digest
from cernvm.core.errors import CatalogFormatError, FormatError
from cernvm.fs.cache import Cache, Content, ContentKey
from cernvm.fs.format import catalog as rows
from cernvm.fs.format.entry import Chunk, Entry, NestedCatalog
from cernvm.fs.format.pack_table import (
    MAX_PACKS,
    MAX_PROFILES,
    PACKS_TABLE,
    PROFILES_TABLE,
    SELECT_PACKED_REVISION,
    SELECT_PACKS,
    SELECT_PROFILES,
    SELECT_TABLES,
    PackTable,
    parse_pack_table,
    parse_profile_rows,
)
from cernvm.fs.format.statistics import Statistics, parse_statistics
from cernvm.fs.reader.database import open_database

MAX_QUERY_S = 10.0
MAX_NESTED = 1_000_000
_STEPS_BETWEEN_CHECKS = 200_000
_MOST_PAGES = (
    2 << 20
)  # of them in SQLite's own memory: with too few each look-up takes half as long again
_CONNECTION_BYTES = 128 * 1024
_REFERENCE_BYTES = 400
_SOME_CHILDREN = "SELECT 1 FROM catalog WHERE parent_1 = ? AND parent_2 = ?"
_PLACES = (
    "SELECT md5path_1, rowid FROM catalog WHERE parent_1 = ? AND parent_2 = ? AND rowid > ?"
    " ORDER BY rowid LIMIT 1024"
)
_UNREADABLE = (sqlite3.Error, OverflowError, UnicodeError)
_REQUIRED_TABLES = {b"catalog", b"nested_catalogs", b"properties"}
_NOT_LEGACY_TABLES = {b"chunks", b"statistics"}
_NESTED_COLUMNS = "SELECT name FROM pragma_table_info('nested_catalogs')"
_NESTED_PATHS = f"SELECT path FROM nested_catalogs LIMIT {MAX_NESTED + 1}"  # noqa: S608  # a number of ours


class Catalog:
    """An attached catalog; its content is pinned in the cache while the object lives.

    Shape: `mountpoint` is where its root stands in the repository as it is shown; `prefix` is the path its rows give
    that root: the same, except below a bind mount; `unnamed` are the places of nested catalogs that cannot be found.
    Units: `memory_bytes` is about what being attached costs at most.
    Errors: every verb raises `CatalogFormatError`. Concurrency: safe from any thread.
    """

    def __init__(
        self, key: ContentKey, content: Content, cache: Cache, *, mountpoint: bytes, prefix: bytes
    ) -> None:
        self.key = key
        self.digest = key.digest
        self.mountpoint = mountpoint
        self.prefix = prefix
        self._place = f"catalog {self.digest}"
        self._lock = threading.Lock()
        self._limit = _TimeLimit()
        self._connection = open_database(content)
        self._connection.text_factory = bytes
        self._connection.set_progress_handler(self._limit.has_passed, _STEPS_BETWEEN_CHECKS)
        self._cursor = self._connection.cursor()
        pages_bytes = min(content.size_bytes, _MOST_PAGES)
        self.memory_bytes = _CONNECTION_BYTES + pages_bytes
        self._hold = _Hold(cache, key, self._connection)
        with self._format_errors():
            self._connection.execute(f"PRAGMA cache_size = -{_MOST_PAGES // 1024}")
            tables = self._check_tables()
            self.properties = rows.parse_properties(
                self._select(rows.SELECT_PROPERTIES), may_be_legacy=True
            )
            self._has_statistics = self._check_schema(tables)
            self._check_root()
            self.unnamed = self._read_unnamed()
            self.nested = self._read_nested("nested_catalogs")
            self.memory_bytes += len(self.nested) * _REFERENCE_BYTES
            self.binds = self._read_nested("bind_mountpoints")

    def find(self, path: bytes, key: rows.PathKey | None = None) -> Entry | None:
        """The entry at a path of the repository, which must lie in this catalog's subtree; `key` is the path's."""
        inside = path
        if key is None or self._is_elsewhere:
            inside = self._inside(path)
            key = rows.path_key(inside)
        try:
            with self._lock:
                self._limit.ends_at = 0.0
                row = self._cursor.execute(self._find_sql, key).fetchone()
            if row is None:
                return None
            entry = rows.parse_entry(row)
            if entry.name != inside[inside.rfind(b"/") + 1 :]:
                raise CatalogFormatError(
                    f"is called {entry.name[:80]!r}", where=f"the entry at {inside[-80:]!r}"
                )
        except FormatError as error:
            raise self._placed(error) from None
        except _UNREADABLE as error:
            raise CatalogFormatError(f"it cannot be read: {error}", where=self._place) from error
        return entry

    def children(self, path: bytes) -> list[Entry]:
        """The entries of a directory, hidden ones included, in no order."""
        with self._format_errors():
            inside = self._inside(path)
            found = self._select(self._children_sql, rows.path_key(inside))
            start = inside + b"/"
            entries = [self._child(row, start) for row in found]
            if len({entry.name for entry in entries}) != len(entries):
                raise CatalogFormatError("lists a name twice", where=repr(path[-80:]))
            return entries

    def child_places(self, path: bytes) -> Iterator[tuple[int, int]]:
        """Of each entry of a directory the first half of its key, and its row, in no order; others go on meanwhile."""
        with self._format_errors():
            key = rows.path_key(self._inside(path))
            ends_at = time.monotonic() + MAX_QUERY_S
            last = -(2**63)
            while some := self._select(_PLACES, (*key, last)):
                if any(type(place) is not int for place, _ in some):
                    raise CatalogFormatError("a key is no number", where=repr(path[-80:]))
                if time.monotonic() > ends_at:
                    raise CatalogFormatError("it takes too long to list", where=repr(path[-80:]))
                yield from some
                last = some[-1][1]

    def child_at(self, row: int, path: bytes) -> Entry:
        """The entry of a directory in a row of `child_places`."""
        with self._format_errors():
            found = self._select(self._row_sql, (row,))
            return self._child(found[0], self._inside(path) + b"/")

    def has_more_children_than(self, limit: int, path: bytes) -> bool:
        """Whether a directory has more than `limit` entries; quick for any size."""
        with self._format_errors():
            key = rows.path_key(self._inside(path))
            return len(self._select(f"{_SOME_CHILDREN} LIMIT {limit + 1}", key)) > limit

    def chunks(self, path: bytes) -> list[Chunk]:
        """The chunks of a file, in no order."""
        with self._format_errors():
            key = rows.path_key(self._inside(path))
            flags = self._select(
                "SELECT flags FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?", key
            )
            if not flags or type(flags[0][0]) is not int:
                raise CatalogFormatError("has no flags", where=repr(path[-80:]))
            algorithm = rows.chunk_algorithm(flags[0][0])
            found = self._select(rows.SELECT_CHUNKS, key)
            return [rows.parse_chunk(row, algorithm=algorithm) for row in found]

    def packs(self) -> PackTable | None:
        """Where its small files are packed; None when it does not say, or says it of another revision."""
        with self._format_errors():
            if PACKS_TABLE not in self._packing():
                return None
            return parse_pack_table(self._select(f"{SELECT_PACKS} LIMIT {MAX_PACKS + 1}"))

    def profiles(self) -> Mapping[str, Digest]:
        """The profiles of the repository, by label; none of another revision."""
        with self._format_errors():
            if PROFILES_TABLE not in self._packing():
                return {}
            return parse_profile_rows(self._select(f"{SELECT_PROFILES} LIMIT {MAX_PROFILES + 1}"))

    def statistics(self) -> Statistics:
        """The counters of this catalog and of all below it."""
        if not self._has_statistics:
            return Statistics()
        with self._format_errors():
            return parse_statistics(self._select(rows.SELECT_STATISTICS))

    def _packing(self) -> set[bytes]:
        """The tables of packs and profiles that were made for this very catalog."""
        made_for = self._select(SELECT_PACKED_REVISION)
        if not made_for or made_for[0][0] != b"%d" % self.properties.revision:
            return set()
        return {name for (name,) in self._select(SELECT_TABLES)}

    def _child(self, row: Sequence[Any], start: bytes) -> Entry:
        """The entry of a row with its key, whose path must be `start` and its name."""
        entry = rows.parse_entry(row[2:])
        if not entry.name or rows.path_key(start + entry.name) != row[:2]:
            raise CatalogFormatError(
                "does not belong there", where=f"{entry.name[:80]!r} in {start[-80:]!r}"
            )
        return entry

    def _inside(self, path: bytes) -> bytes:
        """The path as this catalog's rows know it."""
        return self.prefix + path[len(self.mountpoint) :]

    def _check_tables(self) -> set[bytes]:
        """Only plain tables and their indices: a view or trigger could run anything."""
        found = self._select("SELECT type, name, rootpage FROM sqlite_master")
        tables = {name for kind, name, page in found if kind == b"table" and page}
        if any(kind not in (b"table", b"index") or not page for kind, _, page in found):
            raise CatalogFormatError("it holds more than tables and indices")
        if missing := _REQUIRED_TABLES - tables:
            raise CatalogFormatError(f"it has no table {min(missing).decode()}")
        self._has_binds = b"bind_mountpoints" in tables
        return tables

    def _check_schema(self, tables: set[bytes]) -> bool:
        """Whether it has statistics."""
        properties = self.properties
        if properties.is_legacy:
            self.prefix = properties.root_prefix  # it may be of a tree that once stood elsewhere
        elif properties.root_prefix != self.prefix:
            raise CatalogFormatError(
                f"it says it is of {properties.root_prefix[:80]!r}, not {self.prefix[:80]!r}"
            )
        elif missing := _NOT_LEGACY_TABLES - tables:
            raise CatalogFormatError(f"it has no table {min(missing).decode()}")
        self._is_elsewhere = self.prefix != self.mountpoint
        return b"statistics" in tables

    def _check_root(self) -> None:
        columns = rows.entry_columns(self.properties.schema_revision)
        if self.properties.is_legacy:
            columns = rows.legacy_columns(uid=os.geteuid(), gid=os.getegid())
        key = "md5path_1 = ? AND md5path_2 = ?"
        self._find_sql = f"SELECT {columns} FROM catalog WHERE {key}"  # noqa: S608  # our own columns
        self._children_sql = (
            f"SELECT md5path_1, md5path_2, {columns} FROM catalog"  # noqa: S608
            " WHERE parent_1 = ? AND parent_2 = ?"
        )
        self._row_sql = f"SELECT md5path_1, md5path_2, {columns} FROM catalog WHERE rowid = ?"  # noqa: S608
        root = self.find(self.mountpoint)
        if root is None or not root.is_directory:
            raise CatalogFormatError("its root is no directory")

    def _read_nested(self, table: str) -> Mapping[bytes, NestedCatalog]:
        """The catalogs directly below, by the path where they stand in the repository as it is shown."""
        if self.unnamed or (table == "bind_mountpoints" and not self._has_binds):
            return {}
        columns = rows.nested_columns(self.properties.schema_revision)
        found = self._select(f"SELECT {columns} FROM {table} LIMIT {MAX_NESTED + 1}")  # noqa: S608
        if len(found) > MAX_NESTED:
            raise CatalogFormatError("it names too many nested catalogs")
        nested = {}
        for row in found:
            reference = rows.parse_nested(row)
            nested[self._shown(reference.path, table)] = reference
        return nested

    def _read_unnamed(self) -> frozenset[bytes]:
        """Where nested catalogs stand of which the first schemas have no digest."""
        if (b"sha1",) in self._select(_NESTED_COLUMNS):
            return frozenset()
        if not self.properties.is_legacy:
            raise CatalogFormatError("its nested catalogs have no digests")
        found = self._select(_NESTED_PATHS)
        if len(found) > MAX_NESTED:
            raise CatalogFormatError("it names too many nested catalogs")
        return frozenset(
            self._shown(path if isinstance(path, bytes) else b"", "nested_catalogs")
            for (path,) in found
        )

    def _shown(self, path: bytes, table: str) -> bytes:
        """Where a path of this catalog's rows is shown in the repository; it must lie below its root."""
        if not path.startswith(self.prefix + b"/"):
            raise CatalogFormatError(f"{path[:80]!r} lies outside", where=table)
        return self.mountpoint + path[len(self.prefix) :]

    def _select(self, sql: str, values: Sequence[int] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            self._limit.ends_at = 0.0
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def _format_errors(self) -> Iterator[None]:
        """Name the catalog in every error of its content."""
        try:
            yield
        except FormatError as error:
            raise self._placed(error) from None
        except _UNREADABLE as error:
            raise CatalogFormatError(f"it cannot be read: {error}", where=self._place) from error

    def _placed(self, error: FormatError) -> FormatError:
        if error.where.startswith(self._place):
            return error
        where = f"{self._place}, {error.where}" if error.where else self._place
        return CatalogFormatError(error.reason, where=where)


class _Hold:
    """What a catalog gives back at its end.

    Not by itself: while an object's `__del__` runs, a weak reference still gives it away, and `Tree` would show a
    catalog that is closed.
    """

    def __init__(self, cache: Cache, key: ContentKey, connection: sqlite3.Connection) -> None:
        self._cache, self._key, self._connection = cache, key, connection
        cache.pin(key)

    def __del__(self) -> None:
        self._cache.unpin(self._key)
        self._connection.close()


class _TimeLimit:
    """How long one query may run; apart from the catalog, so that the connection does not keep that alive."""

    def __init__(self) -> None:
        self.ends_at = 0.0  # 0: the query has begun just now

    def has_passed(self) -> bool:
        """Whether SQLite, which asks every so many steps, should give up."""
        if not self.ends_at:
            self.ends_at = time.monotonic() + MAX_QUERY_S
        return time.monotonic() > self.ends_at
