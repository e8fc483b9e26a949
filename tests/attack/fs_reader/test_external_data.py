"""Files that a repository only describes: whatever the server that has them says, only what was described is read."""

import pytest

from attack.fs_reader.forge import SHA1, CatalogMaker, Client, Forge, entry
from cernvm.core.errors import (
    CatalogFormatError,
    CvmError,
    DigestMismatchError,
    HostError,
    PrerequisiteError,
)
from cernvm.fs.format.compress import Compression, deflate
from cernvm.fs.format.entry import EntryFlag
from cernvm.net import Chain, ChainFetcher, MemoryExchange

ELSEWHERE = "http://elsewhere"
FILE = EntryFlag.FILE | EntryFlag.EXTERNAL
CHUNKED = FILE | EntryFlag.CHUNKED
WHOLE = b"whole content " * 99
FIRST, SECOND = b"first chunk " * 100, b"second chunk " * 100
OUTSIDE = {"a%20b/whole": WHOLE, "chunked": FIRST + SECOND}


def described(**how):
    """A repository of two external files, whose content is nowhere in it; signed as `how` says."""
    digests = [SHA1.digest(part) for part in (FIRST, SECOND)]
    plain = {"compression": Compression.NONE}
    forge = Forge()
    maker = CatalogMaker(
        entries={
            b"/a b": entry(b"a b", mode=0o40755, size=4096, flags=EntryFlag.DIRECTORY),
            b"/a b/whole": entry(
                b"whole", size=len(WHOLE), flags=FILE, digest=SHA1.digest(WHOLE), **plain
            ),
            b"/chunked": entry(b"chunked", size=len(FIRST + SECOND), flags=CHUNKED, **plain),
        },
        chunks=[
            (b"/chunked", 0, len(FIRST), digests[0]),
            (b"/chunked", len(FIRST), len(SECOND), digests[1]),
        ],
    )
    return forge.publish(maker, **how).documents


def client_of(*outside, documents=None):
    """A reader of `documents`, and of external hosts that hold `outside` each."""
    client = Client(documents or described())
    hosts = [f"{ELSEWHERE}{n}" for n in range(len(outside))]
    exchange = MemoryExchange(dict(zip(hosts, outside, strict=True)))
    client.external = ChainFetcher(Chain(tuple(hosts)), exchange, clock=client.clock)
    return client


def test_files_and_chunks_come_from_the_hosts_of_external_data():
    client = client_of(OUTSIDE)
    view = client.mount()

    assert client.read(view, b"/a b/whole") == WHOLE
    assert client.read(view, b"/chunked") == FIRST + SECOND


def test_only_the_chunk_that_is_read_is_fetched():
    client = client_of(OUTSIDE)
    view = client.mount()
    before = client.external.traffic.received_bytes

    inode = client.inode(view, b"/chunked")
    assert view.read(inode, len(FIRST) + 5, 7, client.deadline()) == SECOND[5:12]

    assert client.external.traffic.received_bytes - before == len(SECOND)


def test_what_was_fetched_is_read_without_the_hosts():
    client = client_of(OUTSIDE)
    client.read(client.mount(), b"/chunked")
    client.external = ChainFetcher(
        Chain((ELSEWHERE,)), MemoryExchange({ELSEWHERE: {}}), clock=client.clock
    )

    assert client.read(client.mount(), b"/chunked") == FIRST + SECOND


LIES = {
    "other bytes": lambda data: data[::-1],
    "one flipped bit": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "bytes of another place": lambda data: data[1:] + data[:1],
    "less": lambda data: data[:-1],
    "nothing": lambda data: b"",
    "the same, compressed": deflate,
}


@pytest.mark.parametrize("path", [b"/a b/whole", b"/chunked"])
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_of_an_external_host_is_refused_and_the_next_one_asked(path, lie):
    lying = {name: LIES[lie](data) for name, data in OUTSIDE.items()}
    client = client_of(lying)
    with pytest.raises((DigestMismatchError, HostError)):
        client.read(client.mount(), path)

    client = client_of(lying, OUTSIDE)
    expected = {b"/a b/whole": WHOLE, b"/chunked": FIRST + SECOND}[path]
    assert client.read(client.mount(), path) == expected


def test_an_external_host_cannot_give_more_than_was_described():
    client = client_of({"a%20b/whole": WHOLE + b"more" * 10_000})

    with pytest.raises(CvmError):
        client.read(client.mount(), b"/a b/whole")


def test_objects_of_the_repository_are_not_asked_of_external_hosts_nor_the_other_way():
    documents = described()
    client = client_of({}, documents=documents | OUTSIDE)

    with pytest.raises(HostError, match="elsewhere"):
        client.read(client.mount(), b"/a b/whole")


def test_compressed_chunks_have_no_place_in_an_external_file():
    maker = CatalogMaker(
        entries={b"/f": entry(b"f", size=4, flags=CHUNKED)},
        chunks=[(b"/f", 0, 4, SHA1.digest(b"abcd"))],
    )
    client = client_of({"f": b"abcd"}, documents=Forge().publish(maker).documents)

    with pytest.raises(CatalogFormatError, match="compressed"):
        client.read(client.mount(), b"/f")


def test_without_a_host_of_external_data_the_setting_is_named():
    client = Client(described())

    with pytest.raises(PrerequisiteError, match="outside"):
        client.read(client.mount(), b"/chunked")
