"""What every cache does."""

import threading

import pytest

from cernvm.core.digest import Algorithm
from cernvm.core.errors import SpaceError
from cernvm.fs.cache import (
    AlienCache,
    Breadcrumb,
    ContentKey,
    DiskBreadcrumbs,
    DiskCache,
    MemoryBreadcrumbs,
    MemoryCache,
    Rank,
    TieredCache,
)
from cernvm.fs.format.compress import Compression

QUOTA = 100_000


def alien(folder):
    return AlienCache(folder / "alien", writes=True)


def disk(folder):
    return DiskCache(folder / "cache", quota_bytes=QUOTA)


CACHES = {
    "memory": lambda folder: MemoryCache(quota_bytes=QUOTA),
    "disk": disk,
    "tiers, lower one read": lambda folder: TieredCache(
        disk(folder), AlienCache(_made(folder / "other"), writes=False), writes_lower=False
    ),
    "alien": alien,
    "tiers, both written": lambda folder: TieredCache(
        disk(folder), alien(folder), writes_lower=True
    ),
}
WITH_QUOTA = list(CACHES)[:3]
every_cache = pytest.mark.parametrize("cache", CACHES, indirect=True)
bounded_cache = pytest.mark.parametrize("cache", WITH_QUOTA, indirect=True)


@pytest.fixture
def cache(request, tmp_path):
    one = CACHES[request.param](tmp_path)
    yield one
    one.close()


def _made(folder):
    folder.mkdir()
    return folder


def key(number, compression=Compression.ZLIB):
    return ContentKey(Algorithm.SHAKE128.digest(str(number).encode()), compression)


def put(cache, number, size=10_000, compression=Compression.ZLIB, rank=Rank.REGULAR):
    data = bytes([number % 256]) * size
    draft = cache.draft(key(number, compression), rank=rank)
    draft.write(data[: size // 2])
    draft.write(data[size // 2 :])
    return draft.commit()


def holds(cache, number):
    return cache.open(key(number)) is not None


@every_cache
def test_what_was_committed_can_be_read(cache):
    put(cache, 7)

    content = cache.open(key(7))
    assert content.size_bytes == 10_000
    assert content.pread(9_990, 100) == b"\7" * 10
    assert content.pread(20_000, 100) == b""


@every_cache
def test_small_content_that_is_put_can_be_read_at_once(cache):
    content = cache.put_small(key(7), b"small")

    assert content.pread(1, 100) == b"mall"
    assert cache.open(key(7)).pread(0, 100) == b"small"


@bounded_cache
def test_small_content_over_the_quota_is_readable_and_not_kept(cache):
    content = cache.put_small(key(7), bytes(QUOTA + 1))

    assert content.size_bytes == QUOTA + 1
    assert not holds(cache, 7)


@every_cache
def test_what_was_not_stored_is_not_there(cache):
    assert not holds(cache, 1)


@every_cache
def test_an_empty_object_is_content_too(cache):
    put(cache, 1, size=0)

    assert cache.open(key(1)).size_bytes == 0


@every_cache
def test_a_draft_is_seen_by_nobody_before_it_is_committed(cache):
    draft = cache.draft(key(1))
    draft.write(b"half")

    assert not holds(cache, 1)
    draft.discard()
    assert not holds(cache, 1)


@every_cache
def test_discarding_after_the_commit_does_nothing(cache):
    draft = cache.draft(key(1))
    draft.write(b"whole")
    draft.commit()
    draft.discard()

    assert holds(cache, 1)


@bounded_cache
def test_the_same_object_stored_twice_is_one(cache):
    put(cache, 1)
    put(cache, 1)

    assert cache.usage().used_bytes == 10_000


@every_cache
def test_one_digest_under_two_compressions_is_two_contents(cache):
    put(cache, 1, size=10)
    put(cache, 1, size=20, compression=Compression.NONE)

    assert cache.open(key(1)).size_bytes == 10
    assert cache.open(key(1, Compression.NONE)).size_bytes == 20


@bounded_cache
def test_over_the_quota_the_least_recently_used_half_goes(cache):
    for number in range(10):
        put(cache, number)
    for number in (0, 1):
        cache.open(key(number))

    put(cache, 10)

    assert [number for number in range(11) if holds(cache, number)] == [0, 1, 8, 9, 10]
    assert cache.usage().used_bytes == QUOTA // 2


@bounded_cache
def test_the_quota_is_never_exceeded(cache):
    for number in range(50):
        put(cache, number, size=7_000)
        assert cache.usage().used_bytes <= QUOTA


@bounded_cache
def test_pinned_content_stays(cache):
    put(cache, 0)
    cache.pin(key(0))
    for number in range(1, 30):
        put(cache, number)

    assert holds(cache, 0)


@bounded_cache
def test_after_as_many_unpins_content_may_go_again(cache):
    put(cache, 0)
    for step in (cache.pin, cache.pin, cache.unpin, cache.unpin):
        step(key(0))
    for number in range(1, 30):
        put(cache, number)

    assert not holds(cache, 0)


@every_cache
def test_content_that_is_held_outlives_its_eviction(cache):
    content = put(cache, 0)
    cache.evict(key(0))

    assert not holds(cache, 0)
    assert content.pread(0, 3) == b"\0\0\0"


@bounded_cache
@pytest.mark.parametrize("rank", [Rank.VOLATILE, Rank.AHEAD])
def test_what_is_volatile_or_was_never_read_goes_first(cache, rank):
    for number in range(8):
        put(cache, number)
    for number in (8, 9):
        put(cache, number, rank=rank)
    for number in range(10, 13):
        put(cache, number)

    assert not holds(cache, 8)
    assert not holds(cache, 9)


@bounded_cache
def test_what_was_fetched_ahead_counts_as_any_other_once_it_is_read(cache):
    put(cache, 0, rank=Rank.AHEAD)
    for number in range(1, 10):
        put(cache, number)
    cache.open(key(0))
    put(cache, 10)

    assert holds(cache, 0)


@bounded_cache
def test_an_object_over_the_quota_is_refused_and_leaves_the_rest(cache):
    put(cache, 1)
    draft = cache.draft(key(2))

    with pytest.raises(SpaceError):
        draft.write(bytes(QUOTA + 1))
    draft.discard()
    assert holds(cache, 1)
    assert not holds(cache, 2)


@bounded_cache
def test_damaged_content_can_be_removed(cache):
    put(cache, 1)
    cache.evict(key(1))

    assert not holds(cache, 1)
    assert cache.usage().used_bytes == 0


@bounded_cache
def test_many_threads_read_and_write(cache):
    wrong = []

    def work(seed):
        for step in range(60):
            number = (seed * 7 + step) % 20
            content = cache.open(key(number)) or put(cache, number)
            if content.pread(100, 10) != bytes([number]) * 10:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert not wrong
    assert cache.usage().used_bytes <= QUOTA


@pytest.fixture(params=["memory", "disk"])
def breadcrumbs(request, tmp_path):
    return MemoryBreadcrumbs() if request.param == "memory" else DiskBreadcrumbs(tmp_path / "c")


def test_a_breadcrumb_is_found_again(breadcrumbs):
    first = Breadcrumb(Algorithm.RMD160.digest(b"a"), 1_700_000_000, 3)
    second = Breadcrumb(Algorithm.SHA1.digest(b"b"), 1_700_000_001, 4)
    breadcrumbs.leave("a.b.c", first)
    breadcrumbs.leave("a.b.c", second)

    assert breadcrumbs.last_seen("a.b.c") == second
    assert breadcrumbs.last_seen("d.e.f") is None
