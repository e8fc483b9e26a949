"""What a catalog refers to: every object of the files in it, packs, profiles, and the catalogs below."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cernvm.core.digest import DIGEST_BYTES, Algorithm, Digest
from cernvm.core.errors import CatalogFormatError, FormatError, NotFoundError, TrustError
from cernvm.fs.format import catalog as rows
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.pack import Pack
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import open_database, unpack_tables
from cernvm.fs.survey.marks import key_suffix, object_key
from cernvm.fs.survey.reading import read_object, read_profile

MAX_QUERY_S = 600.0
_STEPS_BETWEEN_CHECKS = 1_000_000
# 128: what is external lies in no store
_FILES = "SELECT hash, flags >> 8 & 7 FROM catalog WHERE hash IS NOT NULL AND flags & 128 = 0"
_CHUNKS = (
    "SELECT chunks.hash, flags >> 8 & 7 FROM chunks JOIN catalog USING (md5path_1, md5path_2)"
    " WHERE flags & 128 = 0"
)


@dataclass(frozen=True, slots=True)
class References:
    """What one catalog refers to.

    Shape: `objects` are keys (`marks`) of files, chunks, packs and profiles, with duplicates; `binds` are the root
    catalogs of other revisions that it shows. Units: `size_bytes` of the catalog, inflated.
    """

    catalog: NestedCatalog
    objects: list[bytes]
    nested: tuple[NestedCatalog, ...]
    binds: tuple[NestedCatalog, ...]
    size_bytes: int


def read_references(store: ObjectStore, catalog: NestedCatalog) -> References:
    """Read a catalog of the store.

    Errors: `NotFoundError`, `ObjectFormatError`, `CatalogFormatError` for one that is lost or damaged.
    """
    data = read_object(store, catalog.digest, ObjectKind.CATALOG)
    with open_catalog_database(data, catalog) as database:
        properties = rows.parse_properties(database.execute(rows.SELECT_PROPERTIES).fetchall())
        objects = list(_keys(database, _FILES, ObjectKind.PLAIN))
        objects += _keys(database, _CHUNKS, ObjectKind.PARTIAL)
        packs, profiles = unpack_tables(database, properties)
        objects += [object_key(one.pack.digest, ObjectKind.PACK) for one in packs]
        nested = _nested(database, "nested_catalogs", properties)
        binds = _nested(database, "bind_mountpoints", properties)
    for label, digest in profiles:
        objects.append(object_key(digest, ObjectKind.PROFILE))
        objects += [object_key(p.digest, ObjectKind.PACK) for p in _packs_of(store, label, digest)]
    return References(catalog, objects, nested, binds, len(data))


def read_properties(store: ObjectStore, root: Digest) -> rows.Properties:
    """What a root catalog says of itself; errors as `read_references`."""
    catalog = NestedCatalog(b"", root, 0)
    with open_catalog_database(read_object(store, root, ObjectKind.CATALOG), catalog) as database:
        return rows.parse_properties(database.execute(rows.SELECT_PROPERTIES).fetchall())


@contextmanager
def open_catalog_database(data: bytes, catalog: NestedCatalog) -> Iterator[sqlite3.Connection]:
    """A catalog's database, in which nothing but plain tables can be, and no query runs for ever."""
    where = f"catalog {catalog.digest}"
    try:
        with open_database(data, where) as database:
            end = time.monotonic() + MAX_QUERY_S
            database.set_progress_handler(lambda: time.monotonic() > end, _STEPS_BETWEEN_CHECKS)
            database.execute("PRAGMA trusted_schema = OFF")
            for kind, page in database.execute("SELECT type, rootpage FROM sqlite_master"):
                if kind not in (b"table", b"index") or not page:
                    raise CatalogFormatError("it holds more than tables and indices", where=where)
            yield database
    except FormatError as error:
        if error.where.startswith(where):
            raise
        raise CatalogFormatError(str(error), where=where) from error
    except OverflowError as error:
        raise CatalogFormatError(f"it cannot be read: {error}", where=where) from error


def _keys(database: sqlite3.Connection, select: str, kind: ObjectKind) -> Iterator[bytes]:
    suffixes = {algorithm.flag: key_suffix(algorithm, kind) for algorithm in Algorithm}
    for raw, algorithm in database.execute(select):
        if type(raw) is not bytes or len(raw) != DIGEST_BYTES or algorithm not in suffixes:
            raise CatalogFormatError("a row has no proper digest", where="catalog")
        yield raw + suffixes[algorithm]


def _nested(
    database: sqlite3.Connection, table: str, properties: rows.Properties
) -> tuple[NestedCatalog, ...]:
    known = database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    if known is None:
        return ()
    columns = rows.nested_columns(properties.schema_revision)
    found = database.execute(f"SELECT {columns} FROM {table}")  # noqa: S608
    return tuple(map(rows.parse_nested, found))


def _packs_of(store: ObjectStore, label: str, digest: Digest) -> tuple[Pack, ...]:
    """The packs of a profile; none where it is lost or damaged, since then nobody can ask for them."""
    try:
        return read_profile(store, label, digest).packs
    except (NotFoundError, FormatError, TrustError):
        return ()
