"""Catalogs that are signed, and hostile or broken all the same."""

import time

import pytest

from attack.fs_reader.forge import (
    SHA1,
    CatalogMaker,
    Client,
    Forge,
    directory,
    entry,
    honest,
    row_of,
)
from cernvm.core.errors import (
    CatalogFormatError,
    CvmError,
    FormatError,
    HostError,
    NotFoundError,
)
from cernvm.fs.format import catalog as rows
from cernvm.fs.format.compress import Compression, deflate
from cernvm.fs.format.entry import EntryFlag
from cernvm.fs.format.objects import ObjectKind

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
COLUMNS = (
    "md5path_1, md5path_2, parent_1, parent_2, hardlinks, hash, size, mode, mtime, mtimens, flags,"
    " name, symlink, uid, gid, xattr"
)
SPOILED = {
    "a view in the place of the table": [
        "ALTER TABLE catalog RENAME TO real",
        f"CREATE VIEW catalog AS SELECT {COLUMNS} FROM real, ({ENDLESS})",
    ],
    "a trigger": ["CREATE TRIGGER t AFTER INSERT ON catalog BEGIN SELECT 1; END"],
    "a virtual table": ["CREATE VIRTUAL TABLE t USING fts5(x)"],
    "no table": ["DROP TABLE nested_catalogs"],
    "no root entry": ["DELETE FROM catalog WHERE name = ''"],
    "another schema": ["UPDATE properties SET value = '3.0' WHERE key = 'schema'"],
    "no schema": ["DELETE FROM properties"],
    "a prefix": ["INSERT INTO properties VALUES ('root_prefix', '/elsewhere')"],
    "the root is a file": ["UPDATE catalog SET mode = 33188, flags = 4 WHERE name = ''"],
    "a column is missing": ["ALTER TABLE catalog DROP COLUMN symlink"],
    "a nested catalog outside": ["INSERT INTO nested_catalogs VALUES ('relative', '', 0)"],
    "a nested catalog above": [
        f"INSERT INTO nested_catalogs VALUES ('/a/../../b', '{SHA1.digest(b'')}', 0)"
    ],
    "a nested catalog without digest": ["INSERT INTO nested_catalogs VALUES ('/a', 'x', 0)"],
    "a revision of letters": ["UPDATE properties SET value = 'x' WHERE key = 'revision'"],
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_catalog_that_is_no_plain_catalog_is_refused(what):
    client = Client(Forge().publish(CatalogMaker(spoil=SPOILED[what])).documents)
    started = time.monotonic()

    with pytest.raises(CatalogFormatError):
        client.mount()
    assert time.monotonic() - started < 5


def test_what_is_no_database_is_refused():
    forge = Forge()
    for data in (b"", b"no database" * 1000, CatalogMaker().bytes()[:5000]):
        forge.publish(forge.store(data, ObjectKind.CATALOG))
        with pytest.raises(CatalogFormatError):
            Client(forge.documents).mount()


WRONG_VALUES = {
    "size": "'many'",
    "mode": "NULL",
    "mtime": "x'00'",
    "flags": "'x'",
    "uid": "1.5",
    "hash": "x'0102'",
    "hardlinks": "NULL",
    "name": "NULL",
    "xattr": "x'01ff00'",
    "mtimens": "-5",
}


@pytest.mark.parametrize("column", WRONG_VALUES)
def test_a_value_of_the_wrong_kind_is_refused_where_it_stands(column):
    forge = Forge()
    spoil = [f"UPDATE catalog SET {column} = {WRONG_VALUES[column]} WHERE name = 'bad'"]
    maker = CatalogMaker(
        entries={b"/bad": forge.file(b"bad", b"x"), b"/good": forge.file(b"good", b"good")},
        spoil=spoil,
    )
    client = Client(forge.publish(maker).documents)
    view = client.mount()

    assert client.read(view, b"/good") == b"good"
    with pytest.raises(CatalogFormatError):
        client.inode(view, b"/bad")
    with pytest.raises(CatalogFormatError):
        client.names(view)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a\0b", "", "x" * 300, "/etc/passwd"])
def test_a_name_that_leads_elsewhere_is_never_listed(name):
    forge = Forge()
    key = rows.path_key(b"/" + name.encode())
    spoil = [
        (
            "UPDATE catalog SET name = CAST(? AS TEXT), md5path_1 = ?, md5path_2 = ? WHERE name = 'bad'",
            (name.encode(), *key),
        )
    ]
    maker = CatalogMaker(entries={b"/bad": forge.file(b"bad", b"x")}, spoil=spoil)
    client = Client(forge.publish(maker).documents)
    view = client.mount()

    with pytest.raises(CatalogFormatError):
        client.names(view)


def test_a_name_that_is_not_the_one_it_is_filed_under_is_refused():
    forge = Forge()
    spoil = ["UPDATE catalog SET name = 'innocent' WHERE name = 'bad'"]
    maker = CatalogMaker(entries={b"/bad": forge.file(b"bad", b"x")}, spoil=spoil)
    client = Client(forge.publish(maker).documents)
    view = client.mount()

    with pytest.raises(CatalogFormatError):
        client.names(view)
    with pytest.raises(CatalogFormatError):
        client.inode(view, b"/bad")


def test_a_catalog_nested_in_itself_ends():
    """A digest cannot be within what it covers, but two bind mounts of one catalog can follow each other for ever."""
    forge = Forge()
    old = forge.catalog(CatalogMaker(entries={b"/old": forge.file(b"old", b"old")}))
    flags = EntryFlag.DIRECTORY | EntryFlag.BIND_MOUNTPOINT
    bound = entry(b"bound", mode=0o40755, size=4096, flags=flags)
    root = CatalogMaker(entries={b"/bound": bound}, binds=[(b"/bound", old)])
    client = Client(forge.publish(root).documents)
    view = client.mount()

    assert client.read(view, b"/bound/old") == b"old"
    assert client.names(view, b"/bound") == {b"old"}


def test_a_nested_catalog_of_another_place_is_refused():
    forge = Forge()
    nested = forge.catalog(CatalogMaker(b"/right", {b"/right/x": forge.file(b"x", b"x")}))
    root = CatalogMaker(entries={b"/wrong": directory(b"wrong")}, nested=[(b"/wrong", nested)])
    client = Client(forge.publish(root).documents)
    view = client.mount()

    with pytest.raises(CatalogFormatError, match="/right"):
        client.names(view, b"/wrong")


CHUNKS = {
    "a gap": [(0, 5), (6, 4)],
    "an overlap": [(0, 6), (5, 5)],
    "too short": [(0, 5)],
    "too long": [(0, 5), (5, 50)],
    "none": [],
}


@pytest.mark.parametrize("what", CHUNKS)
def test_chunks_that_do_not_make_the_file_are_refused(what):
    forge = Forge()
    digest = forge.store(b"12345", ObjectKind.PARTIAL)
    chunked = entry(b"file", size=10, flags=EntryFlag.FILE | EntryFlag.CHUNKED)
    chunks = [(b"/file", offset, size, digest) for offset, size in CHUNKS[what]]
    client = Client(
        forge.publish(CatalogMaker(entries={b"/file": chunked}, chunks=chunks)).documents
    )

    with pytest.raises(CatalogFormatError):
        client.read(client.mount(), b"/file")


@pytest.mark.parametrize("size", [0, 4, 6, 1 << 40])
def test_a_size_that_is_not_the_objects_is_refused(size):
    forge = Forge()
    lying = entry(b"file", size=size, digest=forge.store(b"12345"))
    client = Client(forge.publish(CatalogMaker(entries={b"/file": lying})).documents)
    view = client.mount()

    if size == 0:
        assert client.read(view, b"/file") == b""
    else:
        with pytest.raises(FormatError):
            client.read(view, b"/file")


def test_a_bomb_does_not_go_off():
    forge = Forge()
    bomb = deflate(bytes(300_000_000))
    small = entry(b"file", size=1000, digest=forge.store(b"", stored=bomb))
    client = Client(forge.publish(CatalogMaker(entries={b"/file": small})).documents)
    view = client.mount()
    started = time.monotonic()

    with pytest.raises(CvmError):
        client.read(view, b"/file")
    assert time.monotonic() - started < 2
    assert client.cache.usage().used_bytes < 1_000_000


def test_one_repository_cannot_poison_anothers_content():
    """Declared as uncompressed, another's object is another content, under the same digest."""
    victim = Forge()
    plain = victim.file(b"file", b"victim's content")
    victim.publish(CatalogMaker(entries={b"/file": plain}))
    attacker = Forge("attacker.cernvm.test")
    stored = deflate(b"victim's content")
    attacker.store(b"", stored=stored)
    twisted = entry(b"file", size=len(stored), digest=plain.digest, compression=Compression.NONE)
    attacker.publish(CatalogMaker(entries={b"/file": twisted}))
    first = Client(attacker.documents, name=attacker.name)
    second = Client(victim.documents)
    second.cache = first.cache

    assert first.read(first.mount(), b"/file") == stored
    assert second.read(second.mount(), b"/file") == b"victim's content"


def test_hidden_entries_are_found_and_not_listed():
    forge = Forge()
    hidden = forge.file(b"hidden", b"secret", flags=EntryFlag.FILE | EntryFlag.HIDDEN)
    client = Client(forge.publish(CatalogMaker(entries={b"/hidden": hidden})).documents)
    view = client.mount()

    assert client.names(view) == set()
    assert client.read(view, b"/hidden") == b"secret"


@pytest.mark.soak
def test_a_catalog_damaged_anywhere_gives_values_or_a_format_error(seeded, count):
    """Signed damage: the digest is right, the database is not."""
    good = honest()
    data = CatalogMaker(entries={b"/a": good.file(b"a", b"a"), b"/b": directory(b"b")}).bytes()
    for _ in range(count(500)):
        spoiled = bytearray(data)
        for _ in range(seeded.choice([1, 5, 50])):
            spoiled[seeded.randrange(len(data))] = seeded.randrange(256)
        forge = Forge()
        forge.documents = dict(good.documents)
        forge.publish(forge.store(bytes(spoiled), ObjectKind.CATALOG))
        client = Client(forge.documents)
        try:
            view = client.mount()
            client.names(view)
            client.read(view, b"/a")
        except (FormatError, NotFoundError, HostError):  # a damaged digest is one that nobody has
            pass


def test_a_row_filed_under_a_directory_that_is_a_file_is_not_found():
    forge = Forge()
    maker = CatalogMaker(entries={b"/file": forge.file(b"file", b"x")})
    client = Client(forge.publish(maker).documents)

    with pytest.raises(NotFoundError):
        client.inode(client.mount(), b"/file/below")


NO_KEY = (
    "CREATE TABLE twin AS SELECT * FROM catalog",
    "DROP TABLE catalog",
    "ALTER TABLE twin RENAME TO catalog",
)


@pytest.mark.parametrize("count", [2, 9000])
def test_two_rows_for_one_path_are_no_directory(count):
    """Only a table without its primary key can hold them; long directories are listed in another way."""
    forge = Forge()
    entries = {b"/f%d" % n: forge.file(b"f%d" % n, b"one") for n in range(count)}
    again = forge.file(b"f1", b"another")
    spoil = [*NO_KEY, (rows.INSERT_ENTRY, row_of(b"/f1", again))]
    client = Client(forge.publish(CatalogMaker(entries=entries, spoil=spoil)).documents)
    view = client.mount()

    with pytest.raises(CatalogFormatError, match="twice"):
        client.names(view)


def test_two_rows_for_one_stretch_of_a_file_are_refused():
    forge = Forge()
    digest = forge.store(b"abcd", ObjectKind.PARTIAL)
    flags = EntryFlag.FILE | EntryFlag.CHUNKED
    other = forge.store(b"wxyz", ObjectKind.PARTIAL)
    first, second = rows.path_key(b"/f")
    spoil = [
        "CREATE TABLE twin AS SELECT * FROM chunks",
        "DROP TABLE chunks",
        "ALTER TABLE twin RENAME TO chunks",
        ("INSERT INTO chunks VALUES (?, ?, 0, 4, ?)", (first, second, other.raw)),
    ]
    maker = CatalogMaker(
        entries={b"/f": entry(b"f", size=4, flags=flags)},
        chunks=[(b"/f", 0, 4, digest)],
        spoil=spoil,
    )
    client = Client(forge.publish(maker).documents)

    with pytest.raises(CatalogFormatError, match="join"):
        client.read(client.mount(), b"/f")
