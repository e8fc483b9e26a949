"""A history object is a database by somebody else: it is read, and nothing in it is carried out."""

import sqlite3
import time

import pytest

from attack.fs_reader.forge import CatalogMaker, Client, Forge
from cernvm.core.errors import CatalogFormatError, CvmError, FormatError, TrustError
from cernvm.fs.format.history import CREATE
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.reader.history import read_tags

ROOT = "d6747d09595c52d420faa9d5df4a599138b639a8"


class Bytes:
    """Content that is in memory."""

    path = None

    def __init__(self, data):
        self._data = data
        self.size_bytes = len(data)

    def pread(self, offset, size_bytes):
        return self._data[offset : offset + size_bytes]


def history(*statements):
    connection = sqlite3.connect(":memory:")
    connection.executescript(CREATE)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    return Bytes(connection.serialize())


def tag(name="'a'", digest=f"'{ROOT}'", revision="1", timestamp="1", size="1", branch="''"):
    return (
        "INSERT INTO tags (name, hash, revision, timestamp, channel, description, size, branch)"
        f" VALUES ({name}, {digest}, {revision}, {timestamp}, 0, '', {size}, {branch})"
    )


def test_an_honest_one_is_read_with_its_branches():
    (found,) = read_tags(history(tag(branch="'fork'")), where="history")

    assert (found.name, str(found.root_catalog), found.branch) == ("a", ROOT, "fork")


def test_one_without_branches_is_read_too():
    content = history("DROP TABLE tags", "CREATE TABLE tags (name, hash, revision, timestamp, "
                      "description, size)",
                      f"INSERT INTO tags VALUES ('a', '{ROOT}', 1, 1, '', 1)")  # fmt: skip

    assert [found.branch for found in read_tags(content, where="history")] == [""]


ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r"


@pytest.mark.parametrize(
    "statements",
    [
        ("DROP TABLE tags", f"CREATE VIEW tags AS SELECT n AS name FROM ({ENDLESS})"),
        ("DROP TABLE tags",),
        ("CREATE TRIGGER t AFTER INSERT ON tags BEGIN DELETE FROM tags; END",),
        (tag(digest="'../../etc/passwd'"),),
        (tag(digest="NULL"),),
        (tag(revision="-1"),),
        (tag(revision="'x'"),),
        (tag(timestamp="9e18"),),
        (tag(timestamp="99999999999999"),),
    ],
)
def test_what_is_no_list_of_tags_is_refused(statements):
    begin = time.monotonic()

    with pytest.raises(CatalogFormatError, match="history"):
        read_tags(history(*statements), where="history")

    assert time.monotonic() - begin < 5


def test_any_flipped_byte_gives_tags_or_an_error_of_ours(seeded):
    whole = history(*(tag(name=f"'t{i}'") for i in range(20))).pread(0, 1 << 20)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[seeded.randrange(len(whole))] ^= 1 << seeded.randrange(8)
        try:
            read_tags(Bytes(bytes(damaged)), where="history")
        except CvmError:
            pass


def test_a_flipped_bit_of_the_stored_history_gives_no_tags(seeded):
    forge = Forge()
    stored = forge.store(history(tag()).pread(0, 1 << 20), ObjectKind.HISTORY)
    documents = forge.publish(CatalogMaker(), history=stored).documents
    (path,) = [path for path in documents if path.endswith("H")]
    client = Client(documents)
    client.mount()
    assert len(client.repository.tags(client.deadline())) == 1
    for _ in range(20):
        data = bytearray(documents[path])
        data[seeded.randrange(len(data))] ^= 1 << seeded.randrange(8)
        client = Client({**documents, path: bytes(data)})
        client.mount()

        with pytest.raises((TrustError, FormatError)):
            client.repository.tags(client.deadline())


@pytest.mark.parametrize("data", [b"", b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 4080])
def test_what_is_no_database_is_refused(data):
    with pytest.raises(CvmError):
        read_tags(Bytes(data), where="history")
