"""The rows of one catalog that is being edited: an SQLite file of the newest schema, changed in place.

Rows are tuples in the order of `catalog.INSERT_ENTRY`, which equal what `format_entry` makes; keys are `path_key`s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cernvm.core.digest import Digest
from cernvm.fs.format import catalog, pack_table
from cernvm.fs.format.catalog import PathKey, path_key
from cernvm.fs.format.entry import Chunk, NestedCatalog
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.pack_table import PackedStretch
from cernvm.fs.format.statistics import Counters, Statistics, format_statistics, parse_statistics
from cernvm.fs.publish.packing import SmallFile, SmallObject
from cernvm.fs.survey.database import Item

COLUMNS = (
    "md5path_1, md5path_2, parent_1, parent_2, hardlinks, hash, size, mode, mtime, mtimens, flags, name, symlink,"
    " uid, gid, xattr"
)
KEY, PARENT = slice(0, 2), slice(2, 4)
LINKS, MODE, FLAGS, NAME = 4, 7, 10, 11

Row = tuple[Any, ...]

GROUP_SHIFT = 32
COUNT_MASK = 0xFFFF_FFFF
# plain numbers, since an IntFlag's operators take their time
DIRECTORY, MOUNTPOINT, ROOT = 0x1, 0x2, 0x20
FILE, SYMLINK, SPECIAL = 0x4, 0x8, 0x10
CHUNKED, EXTERNAL, HIDDEN = 0x40, 0x80, 0x8000
NESTED = MOUNTPOINT | ROOT
_KIND = DIRECTORY | FILE | SYMLINK | SPECIAL

_IS = "md5path_1 = ? AND md5path_2 = ?"
_IN = "parent_1 = ? AND parent_2 = ?"
_SELECT = f"SELECT {COLUMNS} FROM catalog WHERE {_IS}"  # noqa: S608
_CHILDREN = f"SELECT {COLUMNS} FROM catalog WHERE {_IN}"  # noqa: S608
_UPDATE = (
    "UPDATE catalog SET md5path_1 = ?, md5path_2 = ?, parent_1 = ?, parent_2 = ?, hardlinks = ?, hash = ?, size = ?,"
    " mode = ?, mtime = ?, mtimens = ?, flags = ?, name = CAST(? AS TEXT), symlink = CAST(? AS TEXT), uid = ?,"
    " gid = ?, xattr = ? WHERE md5path_1 = ? AND md5path_2 = ?"
)
# the directories at and below a path, in this catalog; UNION, so that a loop in a damaged catalog ends
FOLDERS = """\
WITH RECURSIVE folders(a, b) AS (VALUES (?, ?) UNION SELECT c.md5path_1, c.md5path_2 FROM folders f \
CROSS JOIN catalog c INDEXED BY idx_catalog_parent ON c.parent_1 = f.a AND c.parent_2 = f.b WHERE c.flags & 1) """
_BELOW = (
    "SELECT c.rowid FROM folders f CROSS JOIN catalog c INDEXED BY idx_catalog_parent"
    " ON c.parent_1 = f.a AND c.parent_2 = f.b"
)

_FOLDERS = """\
WITH RECURSIVE folders(a, b, c, d, name) AS (VALUES (?, ?, 0, 0, '') UNION SELECT c.md5path_1, c.md5path_2, \
c.parent_1, c.parent_2, c.name FROM folders f CROSS JOIN catalog c INDEXED BY idx_catalog_parent \
ON c.parent_1 = f.a AND c.parent_2 = f.b WHERE c.flags & 1) SELECT * FROM folders LIMIT -1 OFFSET 1"""
_SMALL = f"""\
SELECT md5path_1, parent_1, parent_2, name, flags, hash, size FROM catalog \
WHERE flags & {_KIND | CHUNKED | EXTERNAL} = {FILE} AND size <= {pack_table.SMALL_BYTES} AND length(hash) = 20"""  # noqa: S608

_REGULAR = f"flags & {_KIND} = {FILE}"
_COUNT = f"""\
SELECT count(CASE WHEN {_REGULAR} THEN 1 END), count(CASE WHEN flags & {SYMLINK} THEN 1 END), \
count(CASE WHEN flags & {SPECIAL} THEN 1 END), count(CASE WHEN flags & {DIRECTORY} THEN 1 END), \
count(CASE WHEN {_REGULAR} AND flags & {CHUNKED} THEN 1 END), ifnull(sum(CASE WHEN {_REGULAR} THEN size END), 0), \
ifnull(sum(CASE WHEN {_REGULAR} AND flags & {CHUNKED} THEN size END), 0), count(xattr), \
count(CASE WHEN {_REGULAR} AND flags & {EXTERNAL} THEN 1 END), \
ifnull(sum(CASE WHEN {_REGULAR} AND flags & {EXTERNAL} THEN size END), 0) FROM catalog"""  # noqa: S608


class Rows:
    """One catalog's rows over an open connection, whose `text_factory` is bytes."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    def find(self, key: PathKey) -> Row | None:
        """The row of a path."""
        row: Row | None = self.database.execute(_SELECT, key).fetchone()
        return row

    def children(self, key: PathKey) -> list[Row]:
        """The rows of a directory's names, in their order."""
        rows = self.database.execute(_CHILDREN, key).fetchall()
        rows.sort(key=_name)
        return rows

    def insert(self, row: Row, chunks: Iterable[Chunk] = ()) -> None:
        """Add the row of a path that has none."""
        self.database.execute(catalog.INSERT_ENTRY, row)
        if row[FLAGS] & CHUNKED:
            self.add_chunks(row[:2], chunks)

    def update(self, row: Row) -> None:
        """Write another row for a path that has one."""
        self.database.execute(_UPDATE, row + row[:2])

    def delete(self, row: Row) -> None:
        """Take a row and its chunks away."""
        if row[FLAGS] & CHUNKED:
            self.delete_chunks(row[:2])
        self.database.execute(f"DELETE FROM catalog WHERE {_IS}", row[:2])  # noqa: S608

    def delete_below(self, key: PathKey) -> None:
        """Take away all rows below a directory, not its own."""
        owned = f"(SELECT md5path_1, md5path_2 FROM catalog WHERE flags & {CHUNKED} AND rowid IN ("  # noqa: S608
        self.database.execute(
            f"{FOLDERS} DELETE FROM chunks WHERE (md5path_1, md5path_2) IN {owned}{_BELOW}))",  # noqa: S608
            key,
        )
        self.database.execute(f"{FOLDERS} DELETE FROM catalog WHERE rowid IN ({_BELOW})", key)  # noqa: S608

    def chunks(self, row: Row) -> list[Row]:
        """The rows of a file's chunks, as `catalog.SELECT_CHUNKS` gives them, in order."""
        if not row[FLAGS] & CHUNKED:
            return []
        return sorted(self.database.execute(catalog.SELECT_CHUNKS, row[:2]).fetchall())

    def add_chunks(self, key: PathKey, chunks: Iterable[Chunk]) -> None:
        """Add a file's chunks."""
        rows = [(*key, chunk.offset, chunk.size, chunk.digest.raw) for chunk in chunks]
        self.database.executemany(catalog.INSERT_CHUNK, rows)

    def delete_chunks(self, key: PathKey) -> None:
        """Take a file's chunks away."""
        self.database.execute(f"DELETE FROM chunks WHERE {_IS}", key)  # noqa: S608

    def add_links(self, key: PathKey, count: int) -> None:
        """Count more links, or fewer, to a directory."""
        self.database.execute(
            f"UPDATE catalog SET hardlinks = hardlinks + ? WHERE {_IS}",  # noqa: S608
            (count, *key),
        )

    def group(self, folder: PathKey, group: int) -> list[PathKey]:
        """The files of a directory that are one file under several names."""
        sql = f"SELECT md5path_1, md5path_2 FROM catalog WHERE {_IN} AND hardlinks >> 32 = ?"  # noqa: S608
        return self.database.execute(sql, (*folder, group)).fetchall()

    def set_links(self, keys: Iterable[PathKey], links: int) -> None:
        """Write group and link count together, as the column holds them."""
        sql = f"UPDATE catalog SET hardlinks = ? WHERE {_IS}"  # noqa: S608
        self.database.executemany(sql, [(links, *key) for key in keys])

    def last_group(self) -> int:
        """The highest number of a group of hard links."""
        (most,) = self.database.execute("SELECT max(hardlinks) FROM catalog").fetchone()
        return int(most or 0) >> GROUP_SHIFT

    def count(self) -> int:
        """How many rows there are."""
        return int(self.database.execute("SELECT count(*) FROM catalog").fetchone()[0])

    def folders(self, prefix: bytes) -> Iterator[tuple[bytes, PathKey, PathKey]]:
        """Path, key and parent's key of each directory below the catalog's root, parents first."""
        root = path_key(prefix)
        paths = {root: prefix}
        for first, second, above_1, above_2, name in self.database.execute(_FOLDERS, root):
            key, parent = (first, second), (above_1, above_2)
            path = paths[key] = paths[parent] + b"/" + name
            yield path, key, parent

    def folder_sizes(self) -> Iterator[tuple[PathKey, int]]:
        """How many names each directory that has some lists."""
        sql = "SELECT parent_1, parent_2, count(*) FROM catalog GROUP BY parent_1, parent_2"
        for first, second, number in self.database.execute(sql):
            yield (first, second), number

    def folders_with(self, names: Iterable[bytes]) -> list[PathKey]:
        """The directories in which one of these names is no regular file."""
        sql = f"SELECT parent_1, parent_2 FROM catalog WHERE name = CAST(? AS TEXT) AND NOT {_REGULAR}"  # noqa: S608
        return [key for name in names for key in self.database.execute(sql, (name,))]

    def small_files(self, prefix: bytes) -> Iterator[SmallFile]:
        """The files that go into packs."""
        paths = {path_key(prefix): prefix}
        paths |= {key: path for path, key, _ in self.folders(prefix)}
        for first, above_1, above_2, name, flags, raw, size in self.database.execute(_SMALL):
            compression = catalog.compression_of(flags)
            digest = Digest(catalog.chunk_algorithm(flags), raw)
            small = SmallObject(digest, ObjectKind.PLAIN, compression, size)
            yield SmallFile(paths[above_1, above_2] + b"/" + name, first, small)

    def counters(self, *, nested: int) -> Counters:
        """What the catalog counts of its own rows."""
        found = self.database.execute(_COUNT).fetchone()
        chunks = self.database.execute("SELECT count(*) FROM chunks").fetchone()[0]
        values: tuple[int, ...] = (*found[:4], nested, found[4], chunks, *found[5:])
        return Counters(*values)

    def statistics(self) -> Statistics:
        """The counters that the catalog's table holds."""
        return parse_statistics(self.database.execute(catalog.SELECT_STATISTICS))

    def set_statistics(self, statistics: Statistics) -> None:
        """Write the counters; those of other programs stay."""
        rows = format_statistics(statistics)
        # not by OR REPLACE: a table may have come without its primary key
        self.database.executemany(
            "DELETE FROM statistics WHERE counter = ?", [(name,) for name, _ in rows]
        )
        self.database.executemany("INSERT INTO statistics (counter, value) VALUES (?, ?)", rows)

    def nested(self) -> list[NestedCatalog]:
        """The nested catalogs that the catalog refers to."""
        columns = catalog.nested_columns(catalog.SCHEMA_REVISION)
        found = self.database.execute(f"SELECT {columns} FROM nested_catalogs")  # noqa: S608
        return [catalog.parse_nested(row) for row in found]

    def set_nested(self, nested: Iterable[NestedCatalog]) -> None:
        """Write all references to nested catalogs."""
        self.database.execute("DELETE FROM nested_catalogs")
        self.database.executemany(
            catalog.INSERT_NESTED, [catalog.format_nested(one) for one in nested]
        )

    def set_packs(self, stretches: Sequence[PackedStretch]) -> None:
        """Write the table of packs, or none."""
        self.database.execute("DROP TABLE IF EXISTS packs")
        if stretches:
            self.database.execute(pack_table.CREATE_PACKS)
            self.database.executemany(
                pack_table.INSERT_PACK, map(pack_table.format_stretch, stretches)
            )

    def set_profiles(self, profiles: Sequence[tuple[str, Digest]]) -> None:
        """Write the table of profiles, or none."""
        self.database.execute("DROP TABLE IF EXISTS profiles")
        if profiles:
            self.database.execute(pack_table.CREATE_PROFILES)
            self.database.executemany(
                pack_table.INSERT_PROFILE, [(label, str(digest)) for label, digest in profiles]
            )

    def binds(self) -> list[NestedCatalog]:
        """The root catalogs that the catalog binds to paths."""
        found = self.database.execute("SELECT path, sha1, ifnull(size, 0) FROM bind_mountpoints")
        return [catalog.parse_nested(row) for row in found]

    def set_bind(self, bound: NestedCatalog) -> None:
        """Bind a root catalog to a path."""
        sql = "INSERT OR REPLACE INTO bind_mountpoints (path, sha1, size) VALUES (CAST(? AS TEXT), ?, ?)"
        self.database.execute(sql, catalog.format_nested(bound))

    def delete_binds(self, path: bytes) -> None:
        """Bind nothing to a path and to those below it."""
        self.database.execute(
            "DELETE FROM bind_mountpoints WHERE path = CAST(? AS TEXT)"
            " OR (path > CAST(? AS TEXT) AND path < CAST(? AS TEXT))",
            (path, path + b"/", path + b"0"),
        )

    def property(self, key: str) -> bytes | None:
        """The value of a property."""
        found = self.database.execute(
            "SELECT CAST(value AS BLOB) FROM properties WHERE key = ?", (key,)
        )
        row = found.fetchone()
        return None if row is None else row[0]

    def set_property(self, key: str, value: bytes | str | None) -> None:
        """Write a property; None takes it away."""
        self.database.execute("DELETE FROM properties WHERE key = ?", (key,))
        if value is not None:
            sql = "INSERT INTO properties (key, value) VALUES (?, CAST(? AS TEXT))"
            self.database.execute(sql, (key, value))


def item_of(path: bytes, row: Row, chunks: Iterable[Row] = ()) -> Item:
    """The value that a row and those of its chunks hold; a mountpoint or nested root is a plain directory in it."""
    flags = row[FLAGS]
    entry = catalog.parse_entry(
        (*row[LINKS:9], flags & ~NESTED, *row[NAME:16], row[9]),
    )
    if not entry.is_chunked:
        return Item(path, entry)
    algorithm = catalog.chunk_algorithm(flags)
    return Item(path, entry, tuple(catalog.parse_chunk(one, algorithm=algorithm) for one in chunks))


def _name(row: Row) -> bytes:
    name: bytes = row[NAME]
    return name
