import random
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm
from cernvm.core.errors import CatalogFormatError
from cernvm.fs.format.catalog import SCHEMA_REVISION, Properties
from cernvm.fs.format.entry import Chunk, NestedCatalog
from cernvm.fs.format.pack import Pack
from cernvm.fs.format.pack_table import PackedStretch
from cernvm.fs.format.statistics import Statistics
from cernvm.fs.survey.database import Catalog, pack_catalog, unpack_catalog, unpack_history
from unit.fs_publish_draft.conftest import file_item, folder_item

DIGEST = Algorithm.SHAKE128.digest(b"x")
CATALOG = Catalog(
    Properties(SCHEMA_REVISION, 7, 1_700_000_000, DIGEST, b"/a", None),
    (folder_item(b"/a/b"), file_item(b"/a/b/\xe9\n"), file_item(b"/a/c")),
    (NestedCatalog(b"/a/b/n\xff", DIGEST, 9),),
    Statistics(),
)


def with_root(catalog):
    root = folder_item(b"/a")
    return Catalog(catalog.properties, (root, *catalog.items), catalog.nested, catalog.statistics)


def test_catalogs_survive_being_packed():
    catalog = with_root(CATALOG)

    assert unpack_catalog(pack_catalog(catalog, algorithm=Algorithm.SHAKE128)) == catalog


def packed_catalog():
    pack = Pack(DIGEST, 1000, 3)
    stretches = (PackedStretch(b"/a/b/\xe9\n", b"/a/b/\xe9\n", pack),)
    return replace(with_root(CATALOG), packs=stretches, profiles=(("numpy", DIGEST),))


def test_packs_and_profiles_survive_being_packed():
    catalog = packed_catalog()

    assert unpack_catalog(pack_catalog(catalog, algorithm=Algorithm.SHAKE128)) == catalog


def test_tables_that_another_publisher_copied_into_its_revision_are_not_believed():
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.deserialize(pack_catalog(packed_catalog(), algorithm=Algorithm.SHAKE128))
        database.execute("UPDATE properties SET value = '8' WHERE key = 'revision'")
        taken_over = unpack_catalog(database.serialize())

    assert (taken_over.packs, taken_over.profiles) == ((), ())


def test_a_catalog_without_its_root_is_refused():
    with pytest.raises(CatalogFormatError, match="no root entry"):
        unpack_catalog(pack_catalog(CATALOG, algorithm=Algorithm.SHA1))


@given(st.binary(max_size=300))
def test_any_bytes_are_no_catalog_but_our_error(data):
    for unpack in (unpack_catalog, unpack_history):
        with pytest.raises(CatalogFormatError):
            unpack(data)


@given(st.integers(), st.integers(1, 30))
def test_damaged_catalogs_are_a_value_or_our_error(seed, times):
    source = random.Random(seed)
    data = bytearray(pack_catalog(with_root(CATALOG), algorithm=Algorithm.SHA1))
    for _ in range(times):
        data[source.randrange(len(data))] = source.randrange(256)
    try:
        unpack_catalog(bytes(data))
    except CatalogFormatError:
        pass


def test_chunks_keep_their_algorithm():
    from dataclasses import replace

    catalog = with_root(CATALOG)
    last = catalog.items[-1]
    chunked = replace(
        last,
        entry=replace(last.entry, size=3, flags=last.entry.flags | 64, digest=None),
        chunks=(Chunk(0, 1, DIGEST), Chunk(1, 2, DIGEST)),
    )
    catalog = replace(catalog, items=(*catalog.items[:-1], chunked))

    assert unpack_catalog(pack_catalog(catalog, algorithm=Algorithm.SHAKE128)) == catalog
