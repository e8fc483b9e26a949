"""Catalogs that a publisher should not edit: each is refused with a reason, and nothing in it runs."""

import sqlite3

import pytest

from cernvm.core.digest import Algorithm
from cernvm.core.errors import CatalogFormatError, CvmError, NotFoundError, ObjectFormatError
from cernvm.fs.format.catalog import CREATE
from cernvm.fs.format.compress import deflate
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.survey.reading import read_object
from unit.fs_publish_draft.conftest import Press, file_item, folder_item


@pytest.fixture
def press(tmp_path):
    made = Press(tmp_path)
    made.publish(
        lambda draft: [
            draft.put(item)
            for item in (
                folder_item(b"/n"),
                file_item(b"/n/.cvmfscatalog"),
                file_item(b"/n/file"),
                folder_item(b"/n/sub"),
            )
        ]
    )
    return made


def forge(press, *statements, of=b"/n"):
    """Replace a catalog by one in which statements were run, also in the one above."""
    digest = press.read()[1][of]
    data = run(content(press, digest), *statements)
    forged = store(press, deflate(data))
    if not of:
        press.root = forged
        return
    parent = run(
        content(press, press.root),
        f"UPDATE nested_catalogs SET sha1 = '{forged}' WHERE path = '{of.decode()}'",
    )
    press.root = store(press, deflate(parent))


def content(press, digest):
    return read_object(press.store, digest, ObjectKind.CATALOG)


def run(data, *statements):
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.deserialize(data)
    for statement in statements:
        database.execute(statement)
    return database.serialize()


def store(press, stored):
    digest = Algorithm.SHA1.digest(stored)
    press.store.put(object_path(digest, ObjectKind.CATALOG), stored)
    return digest


def edit(press):
    with press.draft() as draft:
        draft.put(file_item(b"/n/new"))
        draft.finish()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON catalog BEGIN DELETE FROM catalog; END",
        "CREATE VIEW v AS SELECT 1",
        "UPDATE properties SET value = '/other' WHERE key = 'root_prefix'",
        "UPDATE properties SET value = '9.9' WHERE key = 'schema'",
        "UPDATE properties SET value = 'many' WHERE key = 'revision'",
        "DELETE FROM catalog WHERE flags & 32",
        "DROP TABLE catalog",
        "DROP TABLE nested_catalogs",
        "INSERT INTO nested_catalogs VALUES ('/n/../up', 'none', 1)",
    ],
)
def test_a_catalog_that_is_not_as_it_should_be_is_refused(press, statement):
    forge(press, statement)

    with pytest.raises(CatalogFormatError):
        edit(press)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP INDEX idx_catalog_parent",
        "DROP TABLE chunks",
        "DROP TABLE bind_mountpoints",
        "DROP TABLE statistics",
        "CREATE TABLE other (column)",
        "INSERT INTO properties VALUES ('other', 'value')",
        "UPDATE statistics SET value = -7",
    ],
)
def test_what_a_catalog_lacks_or_has_besides_is_put_right_or_kept(press, statement):
    forge(press, statement)

    press.publish(lambda draft: (draft.put(file_item(b"/n/new")), draft.remove(b"/n/sub")))

    items, _ = press.read()
    assert b"/n/new" in items
    assert b"/n/sub" not in items


def test_a_row_with_wrong_values_is_refused_when_it_is_read(press):
    forge(press, "UPDATE catalog SET mode = 'text' WHERE name = 'file'")

    with press.draft() as draft, pytest.raises(CatalogFormatError):
        draft.listing(b"/n")


def test_directories_that_hold_each_other_end_a_removal(press):
    """Rows may form a loop that no path leads to or out of."""
    forge(
        press,
        "UPDATE catalog SET parent_1 = md5path_1, parent_2 = md5path_2 WHERE name = 'sub'",
    )

    with press.draft() as draft:
        draft.remove(b"/n")
        assert draft.find(b"/n") is None


def test_a_catalog_that_is_mounted_below_itself_does_not_hang_a_draft(press):
    """A nested catalog of another path is refused as soon as it is looked into."""
    nested = press.read()[1][b"/n"]
    forge(
        press,
        f"INSERT INTO nested_catalogs VALUES ('/n/sub', '{nested}', 1)",
        "UPDATE catalog SET flags = 3 WHERE name = 'sub'",
    )

    with press.draft() as draft, pytest.raises(CatalogFormatError):
        draft.listing(b"/n/sub")


def test_damage_in_the_store_is_found_before_anything_is_written(press):
    digest = press.read()[1][b"/n"]
    path = object_path(digest, ObjectKind.CATALOG)
    press.store.put(path, press.store.get(path)[:-1] + b"x")
    before = set(press.store.content)

    with pytest.raises(CatalogFormatError, match="damaged"):
        edit(press)

    assert set(press.store.content) == before


def test_a_catalog_that_the_store_lost_is_named(press):
    press.store.delete(object_path(press.read()[1][b"/n"], ObjectKind.CATALOG))

    with pytest.raises(NotFoundError):
        edit(press)


@pytest.mark.parametrize("data", [b"", b"no database", b"SQLite format 3\0" + bytes(200)])
def test_an_object_that_is_no_database_is_refused(press, data):
    press.root = store(press, deflate(data))

    with pytest.raises(CvmError):
        edit(press)


def test_a_catalog_in_another_encoding_is_refused(press):
    """Names are bytes: in a database of UTF-16 they would be read as other ones."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("PRAGMA encoding = 'UTF-16le'")
    database.executescript(CREATE)
    database.execute("INSERT INTO properties VALUES ('schema', '2.5'), ('schema_revision', '7')")
    press.root = store(press, deflate(database.serialize()))

    with pytest.raises(CatalogFormatError, match="UTF-8"):
        edit(press)


def test_an_object_that_inflates_without_end_is_refused(press, monkeypatch):
    monkeypatch.setattr("cernvm.fs.format.catalog.MAX_CATALOG_BYTES", 1 << 20)
    press.root = store(press, deflate(bytes(8 << 20)))

    with pytest.raises(ObjectFormatError):
        edit(press)
