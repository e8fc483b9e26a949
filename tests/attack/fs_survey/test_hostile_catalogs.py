"""Catalogs that somebody made to harm who looks into a store: a finding or an error of ours, never more."""

import contextlib
import random
import sqlite3
from contextlib import closing

import pytest

from cernvm.core.digest import Algorithm
from cernvm.core.errors import CatalogFormatError, CvmError
from cernvm.fs.format.catalog import path_key
from cernvm.fs.format.compress import deflate
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.store.memory import MemoryStore
from cernvm.fs.survey.check.catalog import check_catalog
from cernvm.fs.survey.difference import diff
from cernvm.fs.survey.reading import read_object
from cernvm.fs.survey.references import read_references
from cernvm.fs.survey.walking import walk
from unit.fs_survey.conftest import Maker

TREE = {b"/dir/file": b"small", b"/large": b"long enough to be stored in chunks"}
ENDLESS = """\
DROP TABLE catalog;
CREATE VIEW catalog AS WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x)
 SELECT n AS hash, 4 AS flags FROM x
"""
STATEMENTS = (
    "CREATE VIEW v AS SELECT 1",
    "CREATE TRIGGER t AFTER INSERT ON catalog BEGIN SELECT 1; END",
    ENDLESS,
    "DROP TABLE catalog",
    "DROP TABLE properties",
    "DROP TABLE nested_catalogs; CREATE TABLE nested_catalogs (x)",
    "UPDATE catalog SET hash = zeroblob(19) WHERE hash IS NOT NULL",
    "UPDATE catalog SET hash = 'text' WHERE hash IS NOT NULL",
    "UPDATE catalog SET flags = flags | 7 << 8",
    "UPDATE catalog SET flags = 'x'",
    "UPDATE chunks SET hash = 7",
    "INSERT INTO nested_catalogs VALUES ('../up', 'x', 1)",
    "INSERT INTO nested_catalogs VALUES ('/dir', 'da39a3ee5e6b4b0d3255bfef95601890afd80709', -1)",
    "UPDATE properties SET value = '3.0' WHERE key = 'schema'",
    "UPDATE properties SET value = x'ff' WHERE key = 'schema_revision'",
)

FIRST, SECOND = path_key(b"/d")
MOUNTED = f"""\
INSERT INTO catalog SELECT {FIRST}, {SECOND}, md5path_1, md5path_2, hardlinks, hash, size, mode, mtime, mtimens, 3, 'd',
 symlink, uid, gid, xattr FROM catalog WHERE parent_1 = 0 AND parent_2 = 0
"""


@pytest.fixture
def maker():
    return Maker(MemoryStore())


def hostile(maker, root, statements):
    """The digest of the root catalog after some statements."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.deserialize(read_object(maker.store, root, ObjectKind.CATALOG))
        database.executescript(statements)
        return maker.put(database.serialize(), ObjectKind.CATALOG)


@pytest.mark.parametrize("statements", STATEMENTS)
def test_a_hostile_catalog_is_a_finding_and_an_error(maker, statements):
    good, _ = maker.root(TREE)
    bad = hostile(maker, good, statements)
    catalog = NestedCatalog(b"", bad, 0)

    checked = check_catalog(read_object(maker.store, bad, ObjectKind.CATALOG), catalog)

    assert checked.findings
    for look in (
        lambda: read_references(maker.store, catalog),
        lambda: list(diff(good, bad, maker.store)),
    ):
        with contextlib.suppress(CatalogFormatError):  # not each of them sees all
            look()
    if "VIEW" in statements or "TRIGGER" in statements:
        with pytest.raises(CatalogFormatError, match="more than tables"):
            read_references(maker.store, catalog)


def test_a_catalog_that_names_itself_from_elsewhere_ends_the_walk(maker):
    inner, _ = maker.root({b"/f": b"x"})
    nested = f"INSERT INTO nested_catalogs VALUES ('/d', '{inner}', 1)"
    outer = hostile(maker, inner, nested)

    seen = set()
    assert len(list(walk(maker.store, [outer], seen))) == 2
    # it says it is of the root, so that it is not looked into where it is mounted
    with pytest.raises(CatalogFormatError, match="it says it is of"):
        list(diff(inner, hostile(maker, outer, MOUNTED), maker.store))


def test_a_bomb_is_not_inflated_whole(maker):
    stored = deflate(bytes(64 << 20))
    digest = Algorithm.SHA1.digest(stored)
    maker.store.put(object_path(digest, ObjectKind.CATALOG), stored)

    with pytest.raises(CvmError, match="larger than"):
        read_object(maker.store, digest, ObjectKind.CATALOG, limit_bytes=1 << 20)


def test_flipped_bytes_are_findings_at_worst(maker, count):
    root, _ = maker.root(TREE)
    data = read_object(maker.store, root, ObjectKind.CATALOG)
    for seed in range(count(2000)):
        source = random.Random(seed)
        damaged = bytearray(data)
        for _ in range(source.randint(1, 20)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        check_catalog(bytes(damaged), NestedCatalog(b"", root, 0))
