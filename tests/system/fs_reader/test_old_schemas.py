"""Catalogs of every schema that was ever in use, made here by SQL, and read through the view."""

import os
import sqlite3

import pytest

from attack.fs_reader.forge import Client, Forge
from cernvm.core.errors import CatalogFormatError
from cernvm.fs.format import catalog as rows
from cernvm.fs.format.objects import ObjectKind

KEYS = "md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER"
BODY = "hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER"
TAIL = "flags INTEGER, name TEXT, symlink TEXT"
OWNED = f"{KEYS}, hardlinks INTEGER, {BODY}, {TAIL}, uid INTEGER, gid INTEGER"
CATALOG = {
    "1.0": f"{KEYS}, inode INTEGER, {BODY}, {TAIL}",
    "2.4": OWNED,
    "2.5.0": OWNED,
    "2.5.1": OWNED,
    "2.5.2": f"{OWNED}, xattr BLOB",
    "2.5.6": f"{OWNED}, xattr BLOB",
    "2.5.7": f"{OWNED}, xattr BLOB, mtimens INTEGER",
}
CATALOG["0.9"] = CATALOG["1.0"]
WITH_NESTED_SIZE = {"2.5.1", "2.5.2", "2.5.6", "2.5.7"}
SCHEMAS = sorted(CATALOG)
MTIME_S = 1_300_000_000


def catalog(schema, entries, *, prefix=b"", nested=(), chunks=()):
    """The bytes of a catalog; `entries` are path -> columns that differ from a plain file's."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(f"CREATE TABLE catalog ({CATALOG[schema]})")
    connection.execute("CREATE TABLE properties (key TEXT, value TEXT)")
    major_minor, _, revision = (
        schema.rpartition(".") if schema.count(".") == 2 else (schema, "", "")
    )
    properties = {"schema": "1.0" if schema == "0.9" else major_minor, "revision": "3"}
    properties |= {"schema_revision": revision} if revision not in ("", "0") else {}
    properties |= {"root_prefix": prefix.decode()} if prefix else {}
    connection.executemany("INSERT INTO properties VALUES (?, ?)", properties.items())
    columns = ["path"] if schema == "0.9" else ["path", "sha1"]
    columns += ["size"] if schema in WITH_NESTED_SIZE else []
    types = ", ".join(f"{c} INTEGER" if c == "size" else f"{c} TEXT" for c in columns)
    connection.execute(f"CREATE TABLE nested_catalogs ({types})")
    for path, digest in nested:
        # a catalog that was brought to revision 1 has no sizes in the rows of before
        values = {"path": path.decode(), "sha1": str(digest), "size": None}
        sql = f"INSERT INTO nested_catalogs VALUES ({', '.join('?' * len(columns))})"
        connection.execute(sql, [values[column] for column in columns])
    if schema not in ("0.9", "1.0"):
        connection.execute(
            "CREATE TABLE chunks"
            " (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB)"
        )
        connection.execute("CREATE TABLE statistics (counter TEXT, value INTEGER)")
        connection.execute("INSERT INTO statistics VALUES ('self_regular', 5)")
    for path, offset, size, digest in chunks:
        connection.execute(rows.INSERT_CHUNK, (*rows.path_key(path), offset, size, digest.raw))
    names = [column.split()[0] for column in CATALOG[schema].split(", ")]
    for path, given in entries.items():
        parent = rows.path_key(path.rpartition(b"/")[0]) if path else (0, 0)
        (first, second), (above_1, above_2) = rows.path_key(path), parent
        row = {
            "md5path_1": first, "md5path_2": second, "parent_1": above_1, "parent_2": above_2,
            "inode": 17, "hardlinks": 1, "hash": None, "size": 0, "mode": 0o100644,
            "mtime": MTIME_S, "mtimens": 5, "flags": 4, "symlink": "",
            "name": path.rpartition(b"/")[2].decode(), "uid": 123, "gid": 456, "xattr": None,
        }  # fmt: skip
        row |= given
        connection.execute(
            f"INSERT INTO catalog VALUES ({', '.join('?' * len(names))})", [row[n] for n in names]
        )
    return connection.serialize()


def folder(flags=1):
    return {"mode": 0o40755, "size": 4096, "flags": flags}


def client_of(schema, **more):
    """A repository with a file, a link, a folder and a nested catalog, all of one schema."""
    forge = Forge()
    stored, deep = forge.store(b"content"), forge.store(b"deep content")
    inner = catalog(
        schema,
        {
            b"/nested": folder(33),
            b"/nested/deep": {"hash": deep.raw, "size": len(b"deep content")},
        },
        prefix=b"/nested",
    )
    digest = forge.store(inner, ObjectKind.CATALOG)
    entries = {
        b"": folder(),
        b"/file": {"hash": stored.raw, "size": len(b"content")},
        b"/link": {"mode": 0o120777, "size": 4, "flags": 12, "symlink": "file"},
        b"/folder": folder(),
        b"/nested": folder(3),
    }
    root = catalog(schema, entries | more, nested=[(b"/nested", digest)])
    return Client(forge.publish(forge.store(root, ObjectKind.CATALOG)).documents)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_links_and_folders_of_any_schema_are_read(schema):
    client = client_of(schema)
    view = client.mount()

    assert client.names(view) == {b"file", b"link", b"folder", b"nested"}
    assert client.read(view, b"/file") == b"content"
    assert view.readlink(client.inode(view, b"/link")) == b"file"
    assert view.attributes(client.inode(view, b"/folder")).mode == 0o40755
    assert view.xattr(client.inode(view, b"/file"), b"user.stored") is None
    assert view.statfs().files == (0 if schema in ("0.9", "1.0") else 5)


@pytest.mark.parametrize("schema", [schema for schema in SCHEMAS if schema != "0.9"])
def test_nested_catalogs_of_any_schema_with_digests_are_read(schema):
    client = client_of(schema)

    assert client.read(client.mount(), b"/nested/deep") == b"deep content"


def test_below_a_nested_catalog_without_a_digest_there_is_an_error_and_no_empty_folder():
    client = client_of("0.9")
    view = client.mount()
    inode = client.inode(view, b"/nested")

    with pytest.raises(CatalogFormatError, match="no digest"):
        view.listing(inode, 0, client.deadline())
    with pytest.raises(CatalogFormatError, match="no digest"):
        view.lookup(inode, b"deep", client.deadline())


@pytest.mark.parametrize(
    ("schema", "owner"),
    [("1.0", (os.geteuid(), os.getegid())), ("2.4", (123, 456)), ("2.5.7", (123, 456))],
)
def test_what_has_no_owner_belongs_to_who_mounts(schema, owner):
    client = client_of(schema)
    view = client.mount()
    shown = view.attributes(client.inode(view, b"/file"))

    assert (shown.uid, shown.gid) == owner
    assert shown.link_count == 1
    assert shown.mtime_ns == MTIME_S * 10**9 + (5 if schema == "2.5.7" else 0)


def test_bits_that_meant_nothing_in_old_catalogs_mean_nothing():
    forge = Forge()
    stored = forge.store(b"content")
    flags = 4 | 16 | 64 | 128 | 0x100 | 0x800 | 0x8000
    root = catalog(
        "1.0", {b"": folder(), b"/file": {"hash": stored.raw, "size": 7, "flags": flags}}
    )
    client = Client(forge.publish(forge.store(root, ObjectKind.CATALOG)).documents)
    view = client.mount()

    assert client.names(view) == {b"file"}
    assert client.read(view, b"/file") == b"content"


def test_a_tree_that_once_stood_elsewhere_is_read_by_its_old_paths():
    forge = Forge()
    stored = forge.store(b"content")
    entries = {b"/old/place": folder(), b"/old/place/file": {"hash": stored.raw, "size": 7}}
    root = forge.store(catalog("1.0", entries, prefix=b"/old/place"), ObjectKind.CATALOG)
    client = Client(forge.publish(root).documents)

    assert client.read(client.mount(), b"/file") == b"content"


@pytest.mark.parametrize("schema", ["2.4", "2.5.0", "2.5.7"])
def test_chunks_are_read_of_every_schema_that_has_them(schema):
    forge = Forge()
    parts = [b"first " * 50, b"second " * 50]
    digests = [forge.store(part, ObjectKind.PARTIAL) for part in parts]
    entries = {b"": folder(), b"/file": {"size": len(b"".join(parts)), "flags": 68}}
    chunks = [
        (b"/file", 0, len(parts[0]), digests[0]),
        (b"/file", len(parts[0]), len(parts[1]), digests[1]),
    ]
    root = forge.store(catalog(schema, entries, chunks=chunks), ObjectKind.CATALOG)
    client = Client(forge.publish(root).documents)

    assert client.read(client.mount(), b"/file") == b"".join(parts)
