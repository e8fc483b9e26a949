"""The SQLite files of a repository, between bytes and values: catalogs, history, reflog; all in memory.

Source: docs/formats/repository.md.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import CatalogFormatError
from cernvm.fs.format import catalog, history, pack_table, reflog
from cernvm.fs.format.catalog import PathKey, Properties, path_key
from cernvm.fs.format.entry import Chunk, Entry, NestedCatalog
from cernvm.fs.format.history import Branch, History, Tag
from cernvm.fs.format.pack_table import PackedStretch
from cernvm.fs.format.reflog import Reference, ReferenceKind
from cernvm.fs.format.statistics import Statistics, format_statistics, parse_statistics

_MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Item:
    """A path of a revision: its entry, and the chunks of a chunked file.

    Shape: `path` is absolute within the repository, empty for its root.
    """

    path: bytes
    entry: Entry
    chunks: tuple[Chunk, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalog:
    """A whole catalog as values; `items` in path order, the catalog's root first.

    Shape: `profiles` are labels and the digests of their objects, in the root catalog only.
    """

    properties: Properties
    items: tuple[Item, ...]
    nested: tuple[NestedCatalog, ...]
    statistics: Statistics
    packs: tuple[PackedStretch, ...] = ()
    profiles: tuple[tuple[str, Digest], ...] = ()


def pack_catalog(packed: Catalog, *, algorithm: Algorithm) -> bytes:
    """The catalog as an SQLite file, not yet compressed."""
    with _new(catalog.CREATE) as database:
        database.executemany(
            catalog.INSERT_ENTRY,
            (catalog.format_entry(i.entry, i.path, algorithm=algorithm) for i in packed.items),
        )
        database.executemany(
            catalog.INSERT_CHUNK,
            (
                (*path_key(item.path), chunk.offset, chunk.size, chunk.digest.raw)
                for item in packed.items
                for chunk in item.chunks
            ),
        )
        database.executemany(
            catalog.INSERT_NESTED, (catalog.format_nested(nested) for nested in packed.nested)
        )
        database.executemany(
            "INSERT INTO statistics (counter, value) VALUES (?, ?)",
            format_statistics(packed.statistics),
        )
        database.executemany(
            "INSERT INTO properties (key, value) VALUES (?, CAST(? AS TEXT))",
            catalog.format_properties(packed.properties),
        )
        _pack_tables(database, packed)
        return _serialized(database)


def unpack_catalog(data: bytes) -> Catalog:
    """The catalog in an SQLite file; `CatalogFormatError` where it is none, or not whole."""
    with open_database(data, "catalog") as database:
        properties = catalog.parse_properties(
            database.execute(catalog.SELECT_PROPERTIES).fetchall()
        )
        columns = catalog.entry_columns(properties.schema_revision)
        rows = database.execute(
            f"SELECT md5path_1, md5path_2, parent_1, parent_2, flags, {columns} FROM catalog"  # noqa: S608
        ).fetchall()
        chunks: dict[PathKey, list[tuple[int, int, bytes]]] = {}
        for first, second, *chunk in database.execute(
            "SELECT md5path_1, md5path_2, offset, size, hash FROM chunks"
        ):
            chunks.setdefault((first, second), []).append((chunk[0], chunk[1], chunk[2]))
        nested = database.execute(
            f"SELECT {catalog.nested_columns(properties.schema_revision)} FROM nested_catalogs"  # noqa: S608
        ).fetchall()
        statistics = parse_statistics(database.execute(catalog.SELECT_STATISTICS))
        packs, profiles = unpack_tables(database, properties)
    return Catalog(
        properties=properties,
        items=_with_paths(rows, chunks, properties.root_prefix),
        nested=tuple(catalog.parse_nested(row) for row in nested),
        statistics=statistics,
        packs=packs,
        profiles=profiles,
    )


def unpack_profiles(data: bytes) -> tuple[tuple[str, Digest], ...]:
    """The labels and objects of the profiles that a root catalog names."""
    with open_database(data, "catalog") as database:
        properties = catalog.parse_properties(
            database.execute(catalog.SELECT_PROPERTIES).fetchall()
        )
        return unpack_tables(database, properties)[1]


def pack_history(
    *, name: str, tags: Sequence[Tag], previous: Digest | None, branches: Sequence[Branch] = ()
) -> bytes:
    """A history object, not yet compressed; branches without a tag are left out, as the format wants."""
    used = history.used_branches(branches, tags)
    with _new(history.CREATE) as database:
        database.executemany(
            history.INSERT_PROPERTY, history.format_properties(name=name, previous=previous)
        )
        database.executemany(history.INSERT_BRANCH, map(history.format_branch, used))
        database.executemany(history.INSERT_TAG, map(history.format_tag, tags))
        return _serialized(database)


def unpack_history(data: bytes) -> tuple[Tag, ...]:
    """The tags in a history object."""
    return parse_history(data).tags


def parse_history(data: bytes) -> History:
    """The tags and branches in a history object; old ones know no branches."""
    with open_database(data, "history") as database:
        columns = {row[1] for row in database.execute("PRAGMA table_info(tags)")}
        if b"branch" not in columns:
            return History(tuple(map(history.parse_tag, database.execute(history.SELECT_TAGS))))
        tags = database.execute(history.SELECT_TAGS_OF_BRANCHES)
        branches = database.execute(history.SELECT_BRANCHES)
        return History(
            tuple(map(history.parse_tag, tags)), tuple(map(history.parse_branch, branches))
        )


def parse_reflog(data: bytes) -> tuple[Reference, ...]:
    """All root objects that a reflog lists, in no order."""
    with open_database(data, "reflog") as database:
        return tuple(map(reflog.parse_reference, database.execute(reflog.SELECT_REFERENCES)))


def shrink_reflog(data: bytes, gone: Sequence[Digest]) -> bytes:
    """The reflog without what is gone, and without the room that it took."""
    with open_database(data, "reflog") as database:
        database.executemany(reflog.DELETE_REFERENCE, [(str(digest),) for digest in gone])
        database.execute("COMMIT")
        database.execute("VACUUM")
        return database.serialize()


def extend_reflog(
    data: bytes | None,
    *,
    name: str,
    references: Sequence[tuple[Digest, ReferenceKind]],
    now: datetime,
) -> bytes:
    """The reflog with more references; a new one where `data` is None."""
    source = _new(reflog.CREATE) if data is None else open_database(data, "reflog")
    with source as database:
        if data is None:
            database.executemany(reflog.INSERT_PROPERTY, reflog.format_properties(name))
        database.executemany(
            reflog.INSERT_REFERENCE,
            [(str(digest), int(kind), int(now.timestamp())) for digest, kind in references],
        )
        return _serialized(database)


@contextmanager
def open_database(data: bytes, where: str) -> Iterator[sqlite3.Connection]:
    """The database in an SQLite file, in memory, where names are bytes; its errors are `CatalogFormatError`."""
    if not data.startswith(_MAGIC):
        raise CatalogFormatError("it is no SQLite file", where=where)
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        database.deserialize(data)
        database.text_factory = bytes
        database.execute("BEGIN")
        yield database
    except (sqlite3.Error, UnicodeDecodeError) as exc:
        # the second: SQLite quotes a damaged schema in its message, and Python cannot decode that
        raise CatalogFormatError(f"no such database: {exc}", where=where) from exc
    finally:
        database.close()


def _pack_tables(database: sqlite3.Connection, packed: Catalog) -> None:
    """The tables of packs and profiles, where there is something to put into them."""
    if packed.packs:
        database.execute(pack_table.CREATE_PACKS)
        database.executemany(pack_table.INSERT_PACK, map(pack_table.format_stretch, packed.packs))
    if packed.profiles:
        database.execute(pack_table.CREATE_PROFILES)
        database.executemany(
            pack_table.INSERT_PROFILE, [(label, str(digest)) for label, digest in packed.profiles]
        )
    if packed.packs or packed.profiles:
        database.execute(
            "INSERT INTO properties (key, value) VALUES (?, ?)",
            (pack_table.PACKED_REVISION, str(packed.properties.revision)),
        )


def unpack_tables(
    database: sqlite3.Connection, properties: Properties
) -> tuple[tuple[PackedStretch, ...], tuple[tuple[str, Digest], ...]]:
    """Packs and profiles, if they were made for this revision of the catalog."""
    found = database.execute(pack_table.SELECT_PACKED_REVISION).fetchone()
    if found is None or found[0] != b"%d" % properties.revision:
        return (), ()
    tables = {name for (name,) in database.execute(pack_table.SELECT_TABLES)}
    packs: tuple[PackedStretch, ...] = ()
    profiles: tuple[tuple[str, Digest], ...] = ()
    if pack_table.PACKS_TABLE in tables:
        rows = database.execute(pack_table.SELECT_PACKS).fetchmany(pack_table.MAX_PACKS + 1)
        packs = tuple(pack_table.parse_pack_table(rows).stretches)
    if pack_table.PROFILES_TABLE in tables:
        rows = database.execute(pack_table.SELECT_PROFILES).fetchmany(pack_table.MAX_PROFILES + 1)
        profiles = tuple(sorted(pack_table.parse_profile_rows(rows).items()))
    return packs, profiles


def _with_paths(
    rows: Sequence[Sequence[object]],
    chunks: dict[PathKey, list[tuple[int, int, bytes]]],
    prefix: bytes,
) -> tuple[Item, ...]:
    """Items with their paths, which a catalog holds as hashes of itself and its parent only."""
    children: dict[object, list[Sequence[object]]] = {}
    for row in rows:
        children.setdefault((row[2], row[3]), []).append(row)
    key = path_key(prefix)
    root = [row for row in rows if (row[0], row[1]) == key]
    if not root:
        raise CatalogFormatError("it has no root entry", where=f"catalog of {prefix[:80]!r}")
    found: list[Item] = []
    waiting = [(prefix, root[0])]
    while waiting:
        path, row = waiting.pop()
        found.append(_item(path, row, chunks))
        below = children.pop((row[0], row[1]), [])
        for child in below:
            child_path = path + b"/" + bytes(child[11])  # type: ignore[call-overload]
            if (child[0], child[1]) != path_key(child_path):
                raise CatalogFormatError("name and path disagree", where=repr(child_path[:80]))
            waiting.append((child_path, child))
    if len(found) != len(rows):
        raise CatalogFormatError("entries without a parent", where=f"catalog of {prefix[:80]!r}")
    return tuple(sorted(found, key=lambda item: item.path))


def _item(
    path: bytes, row: Sequence[object], chunks: dict[PathKey, list[tuple[int, int, bytes]]]
) -> Item:
    entry = catalog.parse_entry(row[5:])
    key: PathKey = path_key(path)
    if not entry.is_chunked:
        return Item(path, entry)
    algorithm = catalog.chunk_algorithm(int(row[4]))  # type: ignore[call-overload]
    pieces = (catalog.parse_chunk(piece, algorithm=algorithm) for piece in chunks.get(key, []))
    return Item(path, entry, tuple(sorted(pieces)))


@contextmanager
def _new(script: str) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        database.executescript(script)
        database.execute("BEGIN")
        yield database
    finally:
        database.close()


def _serialized(database: sqlite3.Connection) -> bytes:
    database.execute("COMMIT")
    return database.serialize()
