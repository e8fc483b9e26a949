"""Packs and profiles that are damaged or lie, under a real reader: they cost a request, never a wrong byte."""

import time

import pytest

from attack.fs_reader.forge import SHA1, CatalogMaker, Client, Forge, directory
from cernvm.fs.format.compress import Compression, deflate
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.pack_table import packing_key
from cernvm.fs.format.profile import Access, Profile
from cernvm.fs.reader.settings import AheadSettings
from cernvm.net import MemoryExchange
from cernvm.net.link import Link

FILES = {b"/d/f%02d" % n: b"content of file %d" % n * 50 for n in range(12)}
IN_ORDER = sorted(FILES, key=packing_key)


def forged(lies=None):
    """Documents with a pack of all files and a profile of them; of files among `lies` the pack holds that instead."""
    forge = Forge()
    entries = {b"/d": directory(b"d")}
    entries |= {path: forge.file(path.rpartition(b"/")[2], data) for path, data in FILES.items()}
    maker = CatalogMaker(entries=entries)
    lies = lies or {}
    held = [(path, FILES[path], *([lies[path]] if path in lies else [])) for path in IN_ORDER]
    (pack,) = forge.packed(maker, held)
    accesses = tuple(
        Access(
            path, SHA1.digest(deflate(FILES[path])), ObjectKind.PLAIN, Compression.ZLIB,
            len(FILES[path]), pack=0,
        )
        for path in IN_ORDER
    )  # fmt: skip
    forge.profiled(maker, Profile("program", 1, (pack,), accesses))
    return forge.publish(maker).documents


class FarExchange(MemoryExchange):
    """Says that its hosts are far, so that it pays to fetch ahead."""

    @property
    def link(self):
        return Link(rtt_s=0.02, bytes_per_s=10e6, background_lanes=4)


def read_all(documents):
    """What a reader gets who gives time to what comes ahead; and the counters of that."""
    client = Client(documents)
    client.exchange = FarExchange(client.exchange.documents)
    client.ahead = AheadSettings()
    view = client.mount()
    try:
        got = {IN_ORDER[0]: client.read(view, IN_ORDER[0])}
        until = time.monotonic() + 5
        while time.monotonic() < until:
            ways = client.repository.ahead.counters()["ways"]
            if any(ways[way][end] for way in ("pack", "profile") for end in ("fetched", "failed")):
                break
            time.sleep(0.01)
        return got | {path: client.read(view, path) for path in IN_ORDER}, ways
    finally:
        client.repository.close()


def test_an_honest_pack_is_used():
    got, ways = read_all(forged())

    assert got == FILES
    assert ways["pack"]["fetched"] + ways["profile"]["fetched"]


@pytest.mark.parametrize("letter", ["K", "F"])
def test_a_flipped_bit_in_a_pack_or_profile_is_never_served(letter, seeded, count):
    documents = forged()
    (path,) = [path for path in documents if path.endswith(letter)]
    for _ in range(count(30)):
        data = bytearray(documents[path])
        bit = seeded.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8

        assert read_all({**documents, path: bytes(data)})[0] == FILES


@pytest.mark.parametrize("letter", ["K", "F"])
@pytest.mark.parametrize("lie", ["gone", "empty", "cut", "longer", "of another"])
def test_a_pack_or_profile_that_is_not_what_was_named_is_passed_by(letter, lie):
    documents = forged()
    (path,) = [path for path in documents if path.endswith(letter)]
    (other,) = [path for path in documents if path.endswith("FK".replace(letter, ""))]
    data = documents.pop(path)
    lies = {
        "empty": b"", "cut": data[: len(data) // 2], "longer": data + data,
        "of another": documents[other],
    }  # fmt: skip
    if lie in lies:
        documents[path] = lies[lie]

    assert read_all(documents)[0] == FILES


def test_a_pack_whose_publisher_lies_about_what_it_holds_serves_nothing_wrong():
    first, second, last = IN_ORDER[0], IN_ORDER[1], IN_ORDER[-1]
    lies = {second: FILES[first], last: bytes(len(FILES[last]))}

    assert read_all(forged(lies))[0] == FILES
