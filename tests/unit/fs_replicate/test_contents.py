"""What a catalog asks for; one that is hostile, or none, is refused."""

import sqlite3
import stat
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import CvmError, FormatError
from cernvm.fs.format.catalog import SCHEMA_REVISION, Properties
from cernvm.fs.format.entry import Chunk, Entry, EntryFlag, NestedCatalog
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.statistics import Statistics
from cernvm.fs.replicate.contents import Contents, objects_at
from cernvm.fs.survey.database import Catalog, Item, pack_catalog

NAME = Digest(Algorithm.SHA1, b"catalog's own digest")


def digest(number, algorithm=Algorithm.SHA1):
    return algorithm.digest(b"%d" % number)


def file(name, number, flags=EntryFlag.FILE, *, has_digest=True, algorithm=Algorithm.SHA1):
    return Entry(
        name=name,
        mode=stat.S_IFREG | 0o644,
        size=number,
        mtime_s=0,
        uid=0,
        gid=0,
        flags=flags,
        digest=digest(number, algorithm) if has_digest else None,
    )


def packed(items=(), nested=()):
    root = Entry(b"", stat.S_IFDIR | 0o755, 4096, 0, 0, 0, EntryFlag.DIRECTORY)
    catalog = Catalog(
        properties=Properties(SCHEMA_REVISION, revision=1, last_modified_s=0),
        items=(Item(b"", root), *items),
        nested=tuple(nested),
        statistics=Statistics(),
    )
    return pack_catalog(catalog, algorithm=Algorithm.SHA1)


def changed(script):
    database = sqlite3.connect(":memory:")
    database.deserialize(packed([Item(b"/f", file(b"f", 1))]))
    database.executescript(script)
    data = database.serialize()
    database.close()
    return data


def listed(data, tmp_path):
    contents = Contents(NAME, zlib.compress(data), tmp_path / "catalog")
    try:
        return list(contents.objects())
    finally:
        contents.close()
        assert not (tmp_path / "catalog").exists()


def test_files_chunks_and_whole_chunked_files_are_asked_for(tmp_path):
    chunks = (Chunk(0, 5, digest(10)), Chunk(5, 6, digest(11)))
    items = [
        Item(b"/plain", file(b"plain", 1)),
        Item(b"/shake", file(b"shake", 2, algorithm=Algorithm.SHAKE128)),
        Item(b"/both", file(b"both", 3, EntryFlag.FILE | EntryFlag.CHUNKED), chunks),
        Item(b"/away", file(b"away", 4, EntryFlag.FILE | EntryFlag.EXTERNAL)),
    ]
    assert {(one.digest, one.kind) for one in listed(packed(items), tmp_path)} == {
        (digest(1), ObjectKind.PLAIN),
        (digest(2, Algorithm.SHAKE128), ObjectKind.PLAIN),
        (digest(3), ObjectKind.PLAIN),
        (digest(10), ObjectKind.PARTIAL),
        (digest(11), ObjectKind.PARTIAL),
    }


def test_on_the_way_only_wanted_paths_are_asked_for():
    items = [Item(b"/a", file(b"a", 1)), Item(b"/b", file(b"b", 2))]
    stored = zlib.compress(packed(items))
    assert [one.digest for one in objects_at(stored, lambda path: path == b"/b")] == [digest(2)]


def test_nested_catalogs_must_lie_below(tmp_path):
    data = zlib.compress(packed(nested=[NestedCatalog(b"/a/b", NAME, 1)]))
    contents = Contents(NAME, data, tmp_path / "catalog")
    contents.check_place(b"")
    with pytest.raises(FormatError, match="it is of"):
        contents.check_place(b"/elsewhere")
    contents.close()


@pytest.mark.parametrize(
    "script",
    [
        "CREATE VIEW evil AS SELECT 1",
        (
            "ALTER TABLE chunks RENAME TO was; CREATE VIEW chunks AS WITH RECURSIVE"
            " c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT x AS hash FROM c"
        ),
        "CREATE TRIGGER evil AFTER INSERT ON catalog BEGIN DELETE FROM catalog; END",
        "UPDATE catalog SET hash = 'text' WHERE hash IS NOT NULL",
        "UPDATE catalog SET hash = x'00' WHERE hash IS NOT NULL",
        "UPDATE catalog SET size = 'many' WHERE hash IS NOT NULL",
        "UPDATE catalog SET flags = flags | 0x700 WHERE hash IS NOT NULL",
        "UPDATE properties SET value = '9.9' WHERE key = 'schema'",
        "INSERT INTO nested_catalogs VALUES ('relative', '00', 1)",
        "INSERT INTO nested_catalogs VALUES ('/../up', '00', 1)",
        "DROP TABLE catalog",
        "DROP TABLE nested_catalogs",
    ],
)
def test_a_hostile_catalog_is_refused(script, tmp_path):
    with pytest.raises(FormatError):
        listed(changed(script), tmp_path)


@given(at=st.integers(0), value=st.integers(0, 255))
def test_a_damaged_catalog_never_does_worse_than_an_error(at, value, tmp_path_factory):
    data = bytearray(packed([Item(b"/f", file(b"f", 1))]))
    data[at % len(data)] = value
    try:
        found = listed(bytes(data), tmp_path_factory.getbasetemp())
    except CvmError:
        return
    assert all(len(one.digest.raw) == 20 for one in found)


@pytest.mark.parametrize("stored", [b"", b"no zlib", zlib.compress(b"no database")])
def test_what_is_no_catalog_is_refused(stored, tmp_path):
    with pytest.raises(FormatError):
        Contents(NAME, stored, tmp_path / "catalog")
