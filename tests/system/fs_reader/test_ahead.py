"""What is fetched before anybody asks, and that it costs nobody anything."""

import time

import pytest

from attack.fs_reader.forge import HOST, CatalogMaker, Client, Forge, directory, entry
from cernvm.core.digest import Algorithm
from cernvm.fs.cache import ContentKey
from cernvm.fs.format.compress import Compression, deflate
from cernvm.fs.format.entry import EntryFlag
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.pack_table import packing_key
from cernvm.fs.format.profile import Access, Profile
from cernvm.fs.reader.ahead import profiles
from cernvm.fs.reader.ahead.course import WantedPack
from cernvm.fs.reader.ahead.gathering import Gatherer
from cernvm.fs.reader.ahead.run import Run
from cernvm.fs.reader.ahead.tally import Tally, Way
from cernvm.fs.reader.ahead.window import Window
from cernvm.fs.reader.larder import Larder
from cernvm.fs.reader.settings import NOTHING_AHEAD, AheadSettings
from cernvm.net import Fault, MemoryExchange
from cernvm.net.link import Link

SHA1 = Algorithm.SHA1
COUNT = 40
FILES = {b"/d/f%02d" % n: b"content of file %d" % n * 50 for n in range(COUNT)}
IN_ORDER = sorted(FILES, key=packing_key)


class FarExchange(MemoryExchange):
    """Says that its hosts are far."""

    @property
    def link(self):
        return Link(rtt_s=0.02, bytes_per_s=10e6, background_lanes=4)


def path_of(content, kind=ObjectKind.PLAIN):
    return object_path(SHA1.digest(deflate(content)), kind)


def maker_of(forge, files=FILES):
    entries = {b"/d": directory(b"d")}
    entries |= {path: forge.file(path.rpartition(b"/")[2], data) for path, data in files.items()}
    return CatalogMaker(entries=entries)


@pytest.fixture
def opened():
    """Opens the documents of a forge with reading ahead; all threads end with the test."""
    clients = []

    def open_client(forge, settings=None, **more):
        client = Client(forge.documents, **more)
        client.exchange = FarExchange(client.exchange.documents)
        client.ahead = settings or AheadSettings()
        clients.append(client)
        return client, client.mount()

    yield open_client
    for client in clients:
        client.repository.close()


@pytest.fixture
def packed():
    """A forge whose files lie in one pack, and that pack."""
    forge = Forge()
    maker = maker_of(forge)
    (pack,) = forge.packed(maker, [(path, FILES[path]) for path in IN_ORDER])
    return forge.publish(maker), pack


def asked(client, kind=""):
    """The objects that were asked for so far, of one letter or files."""
    paths = [path for _, path, _ in client.exchange.requests if path.startswith("data/")]
    return [path for path in paths if (path[-1] if path[-1].isupper() else "") == kind]


def way(client, name):
    counters = client.repository.ahead.counters()
    print(name, counters["ways"][name])  # for whoever waits in vain
    return counters["ways"][name]


def until(condition, seconds=10):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never came to be"
        time.sleep(0.005)


def read_all(client, view, paths=IN_ORDER):
    for path in paths:
        assert client.read(view, path) == FILES[path]


def test_after_one_miss_in_a_far_directory_the_others_come_by_themselves(opened):
    forge = Forge()
    client, view = opened(forge.publish(maker_of(forge)))
    client.read(view, IN_ORDER[0])
    until(lambda: way(client, "directory")["fetched"] == COUNT - 1)

    before = len(client.exchange.requests)
    read_all(client, view)

    assert len(client.exchange.requests) == before
    assert way(client, "directory")["used"] == COUNT - 1


def test_a_pack_brings_a_directory_in_one_request(opened, packed):
    forge, pack = packed
    client, view = opened(forge)
    client.read(view, IN_ORDER[0])
    until(lambda: way(client, "pack")["fetched"])

    read_all(client, view)

    assert asked(client, "K") == [object_path(pack.digest, ObjectKind.PACK)]
    assert len(asked(client)) == 1


def test_what_a_pack_brings_in_vain_does_not_fill_the_window(opened, packed):
    forge, pack = packed
    client, view = opened(forge, NOTHING_AHEAD)
    read_all(client, view, IN_ORDER[:5])
    repository, larder, tally = client.repository, Larder(1 << 20), Tally()
    run = Run(iter([]), Window(1 << 20), tally, lambda: None, is_ordered=True)
    run.window.sent(pack.size_bytes)

    gatherer = Gatherer(repository.fetcher, repository.objects, larder, tally)
    gatherer.gather(run, [WantedPack(Way.PACK, pack)])

    rations = larder.take_older_than(0, COUNT)
    assert len(rations) == COUNT - 5
    for ration in rations:
        ration.origin.used(len(ration.stored))
    assert run.window.unused_bytes == 0


def test_each_can_be_turned_off(opened, packed):
    forge, _ = packed
    client, view = opened(forge, AheadSettings(packs=False, read_ahead=False, profiles=False))
    read_all(client, view)
    assert not asked(client, "K")
    assert len(asked(client)) == COUNT

    client, view = opened(forge, AheadSettings(packs=False))
    client.read(view, IN_ORDER[0])
    until(lambda: way(client, "directory")["fetched"] == COUNT - 1)
    assert not asked(client, "K")


def test_a_missing_pack_is_remembered_and_blames_no_host(opened, packed):
    forge, pack = packed
    del forge.documents[object_path(pack.digest, ObjectKind.PACK)]
    client, view = opened(forge)

    client.read(view, IN_ORDER[0])
    until(lambda: way(client, "pack")["failed"])
    read_all(client, view)

    assert len(asked(client, "K")) == 1
    assert client.repository.fetcher.traffic.failures == 0
    assert client.repository.trace.failures() == ()


def test_a_pack_that_lies_costs_its_own_download_and_nothing_else(opened):
    forge = Forge()
    maker = maker_of(forge)
    liar = COUNT // 2
    rows = [(path, FILES[path]) for path in IN_ORDER]
    rows[liar] = (*rows[liar], b"something else")
    forge.packed(maker, rows)
    client, view = opened(forge.publish(maker))

    client.read(view, IN_ORDER[0])
    until(lambda: way(client, "pack")["failed"])
    read_all(client, view)

    assert len(asked(client, "K")) == 1
    assert client.repository.fetcher.traffic.failures == 0


def test_a_pack_of_another_revision_is_not_believed(opened, packed):
    forge = Forge()
    maker = maker_of(forge)
    forge.packed(maker, [(path, FILES[path]) for path in IN_ORDER])
    maker.spoil.append("UPDATE properties SET value = '0' WHERE key = 'packed_revision'")
    client, view = opened(forge.publish(maker))

    client.read(view, IN_ORDER[0])
    until(lambda: way(client, "directory")["fetched"] == COUNT - 1)

    assert not asked(client, "K")


def test_what_nobody_reads_ends_in_the_cache_and_gives_its_memory_back(opened, packed):
    forge, _ = packed
    client, view = opened(forge)
    client.read(view, IN_ORDER[0])
    until(lambda: client.repository.ahead.counters()["waiting_bytes"])

    until(lambda: not client.repository.ahead.counters()["waiting_bytes"], 15)

    for path in IN_ORDER:
        key = ContentKey(SHA1.digest(deflate(FILES[path])), Compression.ZLIB)
        assert client.cache.open(key) is not None
    assert way(client, "pack")["wasted"] >= COUNT - 1
    read_all(client, view)
    assert way(client, "pack")["used"] >= COUNT - 1


def test_what_was_read_is_not_evicted_for_what_might_be(opened, packed):
    forge, _ = packed
    kept = ContentKey(SHA1.digest(b"kept"))
    client, view = opened(forge, quota_bytes=150_000)
    free_bytes = 150_000 - client.cache.usage().used_bytes
    client.cache.put_small(kept, bytes(free_bytes - 20_000))
    client.read(view, IN_ORDER[0])
    until(lambda: client.repository.ahead.counters()["waiting_bytes"])
    until(lambda: not client.repository.ahead.counters()["waiting_bytes"], 15)

    assert client.cache.open(kept) is not None
    assert client.cache.usage().used_bytes <= 150_000


def test_a_sequential_reader_of_a_large_file_finds_the_next_chunk(opened):
    forge = Forge()
    size = 300 << 10
    chunks = [bytes([n]) * size for n in range(4)]
    rows = [
        (b"/big", n * size, size, forge.store(chunk, ObjectKind.PARTIAL))
        for n, chunk in enumerate(chunks)
    ]
    big = entry(b"big", size=4 * size, flags=EntryFlag.FILE | EntryFlag.CHUNKED)
    client, view = opened(forge.publish(CatalogMaker(entries={b"/big": big}, chunks=rows)))
    inode = client.inode(view, b"/big")

    view.read(inode, 0, 4096, client.deadline())

    until(lambda: way(client, "chunk")["fetched"] + way(client, "directory")["fetched"] >= 1)
    before = len(asked(client, "P"))
    assert view.read(inode, size, 4096, client.deadline()) == chunks[1][:4096]
    assert before >= 2


def test_nested_catalogs_come_with_the_one_above(opened):
    forge = Forge()
    below = CatalogMaker(b"/n", {b"/n/f": forge.file(b"f", b"deep")})
    mountpoint = directory(b"n")
    maker = CatalogMaker(entries={b"/n": mountpoint}, nested=[(b"/n", forge.catalog(below))])
    client, view = opened(forge.publish(maker))

    until(lambda: way(client, "catalog")["fetched"] == 1)
    before = len(asked(client, "C"))
    client.read(view, b"/n/f")

    assert len(asked(client, "C")) == before == 2
    assert way(client, "catalog")["used"] == 1


@pytest.fixture
def profiled():
    """A forge with a profile of half of its files, the first three its trigger, all packed in the order of access."""
    forge = Forge()
    maker = maker_of(forge)
    order = IN_ORDER[::2]
    (pack,) = forge.packed(maker, [(path, FILES[path]) for path in order])
    maker.spoil = [step for step in maker.spoil if not isinstance(step, tuple)]  # in no directory
    accesses = tuple(
        Access(
            path, SHA1.digest(deflate(FILES[path])), ObjectKind.PLAIN, Compression.ZLIB, len(FILES[path]), pack=0
        )
        for path in order
    )  # fmt: skip
    forge.profiled(maker, Profile("program", 3, (pack,), accesses))
    return forge.publish(maker), order


def test_a_program_that_is_seen_to_begin_finds_the_rest(opened, profiled):
    forge, order = profiled
    client, view = opened(forge, AheadSettings(read_ahead=False))
    until(lambda: asked(client, "F"))
    time.sleep(0.1)
    read_all(client, view, order[:3])
    until(lambda: way(client, "profile")["fetched"] >= len(order) - 3)
    before = len(client.exchange.requests)

    read_all(client, view, order)

    assert len(client.exchange.requests) == before
    assert way(client, "profile")["used"] >= len(order) - 3


def test_two_of_three_first_files_begin_nothing(opened, profiled):
    forge, order = profiled
    client, view = opened(forge, AheadSettings(read_ahead=False))
    until(lambda: asked(client, "F"))
    time.sleep(0.1)
    read_all(client, view, order[:2])
    time.sleep(0.2)
    assert not asked(client, "K")


def test_a_program_that_began_before_its_profile_came_is_seen_all_the_same(opened, profiled):
    forge, order = profiled
    client = Client(forge.documents)
    client.exchange = FarExchange(client.exchange.documents)
    client.ahead = AheadSettings(read_ahead=False)
    view = client.mount()
    try:
        read_all(client, view, order[:3])
        until(lambda: way(client, "profile")["fetched"] >= len(order) - 3)
    finally:
        client.repository.close()


def test_profiles_that_are_too_long_together_are_left_out(opened, profiled, monkeypatch):
    monkeypatch.setattr(profiles, "MAX_ACCESSES", 10)
    forge, order = profiled
    client, view = opened(forge, AheadSettings(read_ahead=False))
    until(lambda: asked(client, "F"))
    time.sleep(0.1)
    read_all(client, view, order[:3])
    time.sleep(0.2)
    assert not asked(client, "K")


def test_a_damaged_profile_is_passed_by(opened, profiled):
    forge, order = profiled
    (path,) = [path for path in forge.documents if path.endswith("F")]
    client, view = opened(forge)
    client.exchange.faults[HOST, path] = Fault.FLIPPED
    read_all(client, view, order)
    assert client.repository.trace.failures() == ()


def test_closing_ends_the_threads(opened, packed):
    forge, _ = packed
    client, view = opened(forge)
    client.read(view, IN_ORDER[0])
    until(lambda: client.repository.ahead.counters()["threads"])
    client.repository.close()
    assert client.repository.ahead.counters()["threads"] == 0
