"""How objects come in: once for many readers, from the cache, through a disk that rots."""

import gc
import threading
import time

import pytest

from attack.fs_reader.forge import HOST, NOW, CatalogMaker, Client, Forge, directory
from cernvm.core.clock import Deadline, SystemClock
from cernvm.core.errors import CatalogFormatError, DeadlineError, HostError
from cernvm.fs.cache import ContentKey, DiskBreadcrumbs, DiskCache
from cernvm.fs.vfs import ROOT_INODE
from cernvm.net import Fault, MemoryExchange

from .conftest import revision


class SlowExchange(MemoryExchange):
    """Answers after a moment."""

    wait_s = 0.2
    is_silent_once = False

    def get(self, route, path, *, deadline, **terms):
        if self.is_silent_once:
            self.is_silent_once = False
            time.sleep(deadline.remaining_s)
            raise DeadlineError(path, after_s=1)
        time.sleep(self.wait_s)
        return super().get(route, path, deadline=deadline, **terms)


def slow_client(files):
    client = Client(revision(1, files))
    client.clock = SystemClock()
    client.exchange = SlowExchange(client.exchange.documents)
    return client


def in_threads(work, count):
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)


@pytest.fixture
def live():
    """A client whose clock runs, with its whitelist still in date."""
    client = slow_client({b"/file": b"content"})

    class StartedThen(SystemClock):
        def now(self):
            return NOW

    client.clock = StartedThen()
    return client


def test_many_readers_of_one_object_are_one_request(live):
    view = live.mount()
    inode = live.inode(view, b"/file")
    got = []
    before = len(live.exchange.requests)

    in_threads(lambda: got.append(view.read(inode, 0, 99, live.deadline())), 10)

    assert got == [b"content"] * 10
    assert len(live.exchange.requests) == before + 1


def test_a_failure_is_shared_too(live):
    view = live.mount()
    inode = live.inode(view, b"/file")
    live.exchange.faults[HOST, ""] = Fault.BROKEN
    errors = []

    def work():
        try:
            view.read(inode, 0, 99, live.deadline())
        except HostError as error:
            errors.append(error)

    in_threads(work, 5)

    assert len(errors) == 5


def test_a_reader_with_more_time_does_not_fail_with_one_that_has_less(live):
    view = live.mount()
    inode = live.inode(view, b"/file")
    live.exchange.is_silent_once = True
    results = []

    def impatient():
        with pytest.raises(DeadlineError):
            view.read(inode, 0, 99, Deadline.after(0.3))
        results.append("impatient")

    thread = threading.Thread(target=impatient)
    thread.start()
    time.sleep(0.1)
    results.append(view.read(inode, 0, 99, live.deadline()))
    thread.join(5)

    assert sorted(map(str, results)) == ["b'content'", "impatient"]


def test_a_waiting_reader_has_its_own_deadline(live):
    view = live.mount()
    inode = live.inode(view, b"/file")
    live.exchange.wait_s = 1.0
    thread = threading.Thread(target=lambda: view.read(inode, 0, 99, live.deadline()))
    thread.start()
    time.sleep(0.1)
    started = time.monotonic()

    with pytest.raises(DeadlineError):
        view.read(inode, 0, 99, Deadline.after(0.1))
    assert time.monotonic() - started < 0.5
    thread.join(5)


@pytest.fixture
def on_disk(tmp_path):
    client = Client(revision(1, {b"/file": b"content" * 1000, b"/other": b"other"}))
    client.cache = DiskCache(tmp_path / "cache", quota_bytes=1 << 26)
    client.breadcrumbs = DiskBreadcrumbs(tmp_path / "cache")
    yield client
    client.cache.close()


def cached_files(tmp_path):
    return {path.stat().st_size: path for path in (tmp_path / "cache").glob("??/*")}


def test_a_cached_object_is_not_asked_for_again(on_disk):
    on_disk.read(on_disk.mount(), b"/file")
    asked = len(on_disk.exchange.requests)

    view = on_disk.mount()
    on_disk.read(view, b"/file")

    paths = [path for _, path, _ in on_disk.exchange.requests[asked:]]
    assert paths == [".cvmfspublished", ".cvmfswhitelist"]


def test_a_cached_file_that_lost_bytes_is_fetched_again(on_disk, tmp_path):
    on_disk.read(on_disk.mount(), b"/file")
    on_disk.cache.close()
    cached_files(tmp_path)[7000].write_bytes(b"content")
    on_disk.cache = DiskCache(tmp_path / "cache", quota_bytes=1 << 26)

    assert on_disk.read(on_disk.mount(), b"/file") == b"content" * 1000
    on_disk.cache.close()
    assert 7000 in cached_files(tmp_path)


def test_a_cached_catalog_that_rotted_is_fetched_again(on_disk, tmp_path):
    on_disk.mount()
    on_disk.cache.close()
    catalog = max(cached_files(tmp_path).items())[1]
    catalog.write_bytes(b"rotten" * 1000)
    on_disk.cache = DiskCache(tmp_path / "cache", quota_bytes=1 << 26)

    assert on_disk.read(on_disk.mount(), b"/other") == b"other"


def test_offline_everything_cached_is_there_after_a_restart(on_disk, tmp_path):
    on_disk.read(on_disk.mount(), b"/file")
    on_disk.cache.close()
    on_disk.exchange.faults[HOST, ""] = Fault.REFUSED
    on_disk.cache = DiskCache(tmp_path / "cache", quota_bytes=1 << 26)

    view = on_disk.mount()

    assert on_disk.read(view, b"/file") == b"content" * 1000
    with pytest.raises(HostError):
        on_disk.read(view, b"/other")
    why = view.why(b"/other")
    assert [state.is_cached for state in why.objects] == [False]
    assert why.objects[0].attempts[-1].error.endswith("connection refused")
    assert why.failures


def test_the_catalog_stays_when_content_fills_the_cache(tmp_path):
    files = {b"/f%d" % n: bytes([n]) * 100_000 for n in range(30)}
    client = Client(revision(1, files))
    client.cache = DiskCache(tmp_path / "cache", quota_bytes=1_000_000)
    view = client.mount()

    for path, data in files.items():
        assert client.read(view, path) == data

    assert view.statfs().free_bytes >= 0
    assert client.cache.usage().used_bytes <= 1_000_000
    assert view.why(b"/f1").catalogs[0].is_cached
    client.cache.close()


def test_what_is_watched_may_change_while_it_is_read(live):
    view = live.mount()
    objects = view.repository.objects

    class Changing(dict):
        """Profiles of a new revision arrive in the middle of every look."""

        def __contains__(self, _):
            objects.watched = {}
            return True

        def get(self, key):
            objects.watched = {}
            return super().get(key)

    inode = live.inode(view, b"/file")
    objects.watched = Changing()

    assert view.read(inode, 0, 7, live.deadline()) == b"content"


@pytest.fixture
def nested_on_disk(tmp_path):
    forge = Forge()
    below = CatalogMaker(b"/n", {b"/n/f": forge.file(b"f", b"content")})
    above = CatalogMaker(b"", {b"/n": directory(b"n")}, nested=[(b"/n", forge.catalog(below))])
    client = Client(forge.publish(above).documents)
    client.cache = DiskCache(tmp_path / "cache", quota_bytes=1 << 26)
    yield client
    client.cache.close()


def test_a_nested_catalog_that_rotted_is_fetched_again_by_who_does_not_wait_first(
    nested_on_disk, tmp_path
):
    client = nested_on_disk
    view = client.mount()
    client.inode(view, b"/n/f")
    digest = view.repository.revision.tree.folder(b"/n", client.deadline()).digest
    rotten = tmp_path / "cache" / ContentKey(digest).name
    size = rotten.stat().st_size
    del view
    client.repository = None
    client.cache.close()
    gc.collect()
    rotten.write_bytes(b"rotten" * (size // 6) + b"." * (size % 6))
    client.cache = DiskCache(tmp_path / "cache", quota_bytes=1 << 26)

    view = client.mount()
    folder = view.lookup(ROOT_INODE, b"n", client.deadline()).inode

    assert view.try_lookup(folder, b"f") is None
    assert view.lookup(folder, b"f", client.deadline()).size_bytes == 7
    assert view.try_lookup(folder, b"f").size_bytes == 7


def test_a_catalog_that_is_bad_where_it_comes_from_is_not_fetched_all_the_time(client):
    forge = Forge()
    below = CatalogMaker(b"/elsewhere", {b"/elsewhere/f": forge.file(b"f", b"content")})
    above = CatalogMaker(b"", {b"/n": directory(b"n")}, nested=[(b"/n", forge.catalog(below))])
    reader = client(forge.publish(above).documents)
    view = reader.mount()
    folder = view.lookup(ROOT_INODE, b"n", reader.deadline()).inode
    with pytest.raises(CatalogFormatError):
        view.lookup(folder, b"f", reader.deadline())
    asked = len(reader.exchange.requests)

    for _ in range(3):
        with pytest.raises(CatalogFormatError):
            view.try_lookup(folder, b"f")
        with pytest.raises(CatalogFormatError):
            view.lookup(folder, b"f", reader.deadline())

    assert len(reader.exchange.requests) == asked
