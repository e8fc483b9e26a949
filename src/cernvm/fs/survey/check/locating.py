"""Which paths of a revision need some objects: asked only when objects are missing or damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from cernvm.core.digest import DIGEST_BYTES, Algorithm, Digest
from cernvm.core.errors import CvmError
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.marks import key_suffix
from cernvm.fs.survey.reading import read_object
from cernvm.fs.survey.references import open_catalog_database
from cernvm.fs.survey.walking import walk

_FILES = "SELECT hash, flags >> 8 & 7, md5path_1, md5path_2 FROM catalog WHERE hash IS NOT NULL"
_CHUNKS = (
    "SELECT chunks.hash, flags >> 8 & 7, md5path_1, md5path_2 FROM chunks"
    " JOIN catalog USING (md5path_1, md5path_2)"
)
_PARENT = "SELECT name, parent_1, parent_2 FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?"
_MAX_DEPTH = 2048


def locate(
    store: ObjectStore, roots: Iterable[Digest], wanted: Mapping[bytes, str]
) -> Iterator[tuple[bytes, bytes]]:
    """A path for each of the wanted keys, the first that is met in each catalog; packs and profiles have none."""
    seen: set[Digest] = set()
    for references in walk(store, roots, seen, on_lost=lambda _catalog, _error: None):
        mine = wanted.keys() & set(references.objects)
        if not mine:
            continue
        yield from _paths(store, references.catalog, mine)


def _paths(
    store: ObjectStore, catalog: NestedCatalog, wanted: set[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    left = set(wanted)
    try:
        data = read_object(store, catalog.digest, ObjectKind.CATALOG)
        with open_catalog_database(data, catalog) as database:
            for select, kind in ((_FILES, ObjectKind.PLAIN), (_CHUNKS, ObjectKind.PARTIAL)):
                suffixes = {one.flag: key_suffix(one, kind) for one in Algorithm}
                for raw, algorithm, first, second in database.execute(select).fetchall():
                    key = bytes(raw[:DIGEST_BYTES]) + suffixes[algorithm]
                    if key in left:
                        left.remove(key)
                        yield key, _path(database, catalog.path, first, second)
    except CvmError:
        return


def _path(database: sqlite3.Connection, prefix: bytes, first: int, second: int) -> bytes:
    """The path of a row: the names on the way up to the catalog's root."""
    names: list[bytes] = []
    for _ in range(_MAX_DEPTH):
        row = database.execute(_PARENT, (first, second)).fetchone()
        if row is None:
            break
        above = database.execute(_PARENT, row[1:]).fetchone()
        if above is None:
            break
        names.append(row[0])
        first, second = row[1], row[2]
    return prefix + b"".join(b"/" + name for name in reversed(names))
