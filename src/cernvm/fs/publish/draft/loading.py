"""A catalog of the store as a file that may be edited: checked, inflated, brought to the newest schema.

Source: docs/formats/repository.md, "Catalogs".
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import BinaryIO

from cernvm.core.digest import Digest
from cernvm.core.errors import CatalogFormatError
from cernvm.fs.format import catalog
from cernvm.fs.format.compress import Compression, Inflater

_CACHE_KIB = 16 << 10
_WASTE = 5
_READABLE = ((2, 4), (2, 5))
# what each revision of schema 2.5 added that rows need: revision, table, column and its type
_ADDED_COLUMNS = (
    (1, "nested_catalogs", "size INTEGER"),
    (2, "catalog", "xattr BLOB"),
    (7, "catalog", "mtimens INTEGER"),
)


def load_catalog(stored: bytes, digest: Digest, path: Path) -> None:
    """Write the SQLite file in a stored catalog to `path`; `CatalogFormatError` where it is damaged."""
    if digest.algorithm.digest(stored) != digest:
        raise CatalogFormatError("the store's copy is damaged", where=f"catalog {digest}")
    inflater = Inflater(Compression.ZLIB, limit_bytes=catalog.MAX_CATALOG_BYTES)
    with _created(path) as file:
        for piece in inflater.feed(stored):
            file.write(piece)
        inflater.finish()


def create_catalog(path: Path) -> None:
    """Write an empty catalog to `path`."""
    with _created(path):
        pass
    database = open_catalog(path)
    try:
        database.executescript(catalog.CREATE)
    finally:
        database.close()


def open_catalog(path: Path) -> sqlite3.Connection:
    """A connection that may be used from any one thread at a time, in a transaction that nothing rolls back."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.text_factory = bytes
        # the file is thrown away after a crash: nothing of it needs to outlive one
        for pragma in (
            "journal_mode = OFF",
            "synchronous = OFF",
            "trusted_schema = OFF",
            f"cache_size = -{_CACHE_KIB}",
        ):
            database.execute(f"PRAGMA {pragma}")
    except BaseException:
        database.close()
        raise
    return database


def migrate(database: sqlite3.Connection, *, where: str) -> None:
    """Give a catalog all that the newest revision of its schema has; refuses what would run by itself."""
    if database.execute("PRAGMA encoding").fetchone()[0] != b"UTF-8":
        raise CatalogFormatError("its text is not in UTF-8", where=where)
    hidden = "SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view')"
    if database.execute(hidden).fetchone() is not None:
        raise CatalogFormatError("it has triggers or views", where=where)
    properties = catalog.parse_properties(database.execute(catalog.SELECT_PROPERTIES).fetchall())
    if properties.schema not in _READABLE:
        raise CatalogFormatError(f"schema {properties.schema} cannot be edited", where=where)
    present = {
        (table, name)
        for table in ("catalog", "nested_catalogs")
        for (name,) in database.execute(f"SELECT name FROM pragma_table_info('{table}')")  # noqa: S608
    }
    for _, table, column in _ADDED_COLUMNS:
        if (table, column.partition(" ")[0].encode()) not in present:
            database.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    for statement in catalog.CREATE.split(";\n"):
        for word in ("CREATE TABLE ", "CREATE INDEX "):
            if statement.startswith(word):
                database.execute(statement.replace(word, word + "IF NOT EXISTS ", 1))


def compact(path: Path) -> None:
    """Pack a catalog's file anew where a fifth of it, or of its row numbers, is unused."""
    database = open_catalog(path)
    try:
        pages, unused = (
            database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count")
        )
        rows, last = database.execute("SELECT count(*), max(rowid) FROM catalog").fetchone()
        is_sparse = last > rows + rows // _WASTE
        if is_sparse:  # readers make inode numbers of row numbers
            database.execute("CREATE TEMP TABLE kept AS SELECT * FROM catalog ORDER BY rowid")
            database.execute("DELETE FROM catalog")
            database.execute("INSERT INTO catalog SELECT * FROM temp.kept")
            database.execute("DROP TABLE temp.kept")
        if is_sparse or unused > pages // _WASTE:
            database.execute("VACUUM")
    finally:
        database.close()


def _created(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")
