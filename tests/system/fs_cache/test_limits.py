"""The cache stays within its quota, its partition and this process's descriptors."""

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cernvm.fs.cache import DiskCache, Rank
from conftest import missing

from .conftest import data, key

SIZE = len(data(0))


def put(cache, number, rank=Rank.REGULAR):
    draft = cache.draft(key(number), rank=rank)
    draft.write(data(number))
    return draft.commit()


def on_disk(folder):
    """The bytes of all content files; some may vanish while we look."""
    total = 0
    for path in folder.glob("??/*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def test_content_that_is_being_read_is_not_evicted_for_no_gain(tmp_path):
    cache = DiskCache(tmp_path / "cache", quota_bytes=10 * SIZE)
    read = [put(cache, number) for number in range(3)]
    for number in range(3, 30):
        put(cache, number)

    assert all(cache.open(key(number)) is content for number, content in enumerate(read))
    cache.close()


def test_space_of_deleted_files_counts_until_their_last_reader_leaves(tmp_path):
    cache = DiskCache(tmp_path / "cache", quota_bytes=10 * SIZE)
    content = put(cache, 1)
    cache.evict(key(1))

    assert cache.usage().used_bytes == SIZE
    assert content.pread(0, 10**6) == data(1)
    del content
    assert cache.usage().used_bytes == 0
    cache.close()


def test_deleted_files_of_one_process_count_in_the_other(tmp_path):
    one, other = (DiskCache(tmp_path / "cache", quota_bytes=10 * SIZE) for _ in range(2))
    content = put(one, 1)
    one.evict(key(1))
    one.clean(10**9)
    other.clean(10**9)

    assert other.usage().used_bytes == SIZE
    one.close()
    other.clean(10**9)
    assert other.usage().used_bytes == 0
    other.close()
    assert content.pread(0, 10**6) == data(1)


def test_small_content_is_on_disk_after_the_close(tmp_path):
    cache = DiskCache(tmp_path / "cache", quota_bytes=10**9)
    for number in range(300):
        cache.put_small(key(number), data(number))
    cache.close()

    cache = DiskCache(tmp_path / "cache", quota_bytes=10**9)
    assert all(cache.open(key(n)).pread(0, 10**6) == data(n) for n in range(300))
    assert cache.usage().used_bytes == on_disk(tmp_path / "cache")
    cache.close()


def test_small_content_obeys_the_quota(tmp_path):
    cache = DiskCache(tmp_path / "cache", quota_bytes=20 * SIZE)
    most = 0
    for number in range(400):
        cache.put_small(key(number), data(number))
        if number % 10 == 0:
            most = max(most, on_disk(tmp_path / "cache"))
    cache.close()

    assert max(most, on_disk(tmp_path / "cache")) <= 20 * SIZE


def test_what_waits_to_be_written_is_bounded_and_nothing_is_lost(tmp_path):
    cache = DiskCache(tmp_path / "cache", quota_bytes=10**9)
    most = 0
    for number in range(60):
        cache.put_small(key(number), bytes([number]) * (1 << 20))
        most = max(most, cache._behind.size_bytes)
    cache.close()

    assert most <= 8 << 20
    assert len(list((tmp_path / "cache").glob("??/*"))) == 60


def test_another_quota_holds_from_the_next_opening_on(tmp_path):
    cache = DiskCache(tmp_path / "cache", quota_bytes=10**9)
    for number in range(40):
        put(cache, number)
    cache.close()

    cache = DiskCache(tmp_path / "cache", quota_bytes=10 * SIZE)
    assert on_disk(tmp_path / "cache") <= 10 * SIZE
    cache.close()


def test_files_that_a_power_cut_left_unknown_count_too(tmp_path):
    folder = tmp_path / "cache"
    for turn in range(3):
        cache = DiskCache(folder, quota_bytes=20 * SIZE)
        for number in range(15):
            put(cache, 100 * turn + number)
        cache.close()
        for suffix in ("", "-wal", "-shm"):
            (folder / f"index{suffix}").unlink(missing_ok=True)
        (folder / f"owners/{turn:032x}").write_bytes(b"an earlier boot")

    cache = DiskCache(folder, quota_bytes=20 * SIZE)
    assert cache.usage().used_bytes == on_disk(folder) <= 20 * SIZE
    cache.close()


def test_descriptors_are_bounded_and_shared_out_anew(tmp_path):
    script = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from cernvm.fs.cache import DiskCache
from system.fs_cache.conftest import key, data
cache = DiskCache(Path(sys.argv[2]), quota_bytes=10**9)
for number in range(200): cache.put_small(key(number), data(number))
cache.close()
cache = DiskCache(Path(sys.argv[2]), quota_bytes=10**9)
for number in range(200): assert cache.open(key(number)).pread(0, 10**6) == data(number), number
taken = []
try:
    while True: taken.append(open("/dev/null"))
except OSError: pass
assert cache.open(key(7)).pread(0, 10**6) == data(7)
print("right")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parents[2]), str(tmp_path / "cache")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "right\n", done.stderr


def test_a_process_that_stands_still_in_the_index_stops_nobody(tmp_path):
    folder = tmp_path / "cache"
    cache = DiskCache(folder, quota_bytes=10 * SIZE)
    stuck = sqlite3.connect(folder / "index", isolation_level=None)
    stuck.execute("BEGIN IMMEDIATE")
    begin = time.monotonic()
    contents = [put(cache, number) for number in range(40)]
    took_s = time.monotonic() - begin
    stuck.execute("ROLLBACK")
    stuck.close()

    assert took_s < 5
    assert contents[0].pread(0, 10**6) == data(0)
    del contents
    cache.clean(10 * SIZE)
    assert on_disk(folder) <= 10 * SIZE
    cache.close()


def test_who_waits_too_long_for_the_folder_says_so(tmp_path, monkeypatch):
    from cernvm.core.errors import DeadlineError
    from cernvm.fs.cache import owners

    DiskCache(tmp_path / "cache", quota_bytes=10**9).close()
    monkeypatch.setattr(owners, "LOCK_DEADLINE_S", 0.2)
    with open(tmp_path / "cache/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DeadlineError, match="waiting for whoever else"):
            DiskCache(tmp_path / "cache", quota_bytes=10**9)

    DiskCache(tmp_path / "cache", quota_bytes=10**9).close()


SMALL_PARTITION = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cernvm.fs.cache import DiskCache
from system.fs_cache.conftest import key, data
folder = Path(sys.argv[2])
floor = 500_000
cache = DiskCache(folder, quota_bytes=10**12, free_floor_bytes=floor)
def free():
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize
for number in range(600):
    if number % 2: cache.put_small(key(number), data(number))
    else:
        draft = cache.draft(key(number)); draft.write(data(number)); draft.commit()
    while cache._behind.size_bytes > 100_000: pass
    assert free() > floor // 2, (number, free())
assert cache.usage().quota_bytes < 8_000_000, cache.usage()
used = cache.usage().used_bytes
assert used > 3_000_000, used
# Others fill the partition: the cache gives way, and goes on.
room = free()
with open(folder / "others", "wb") as others: others.write(bytes(room - 100_000))
for number in range(1000, 1100):
    draft = cache.draft(key(number)); draft.write(data(number)); draft.commit()
    assert cache.open(key(number)).pread(0, 10**6) == data(number)
cache.clean(10**12)
import time; time.sleep(0.6)
draft = cache.draft(key(1)); draft.write(data(1)); draft.commit()
assert cache.usage().used_bytes < used, cache.usage()
assert free() > floor // 2, free()
cache.close()
print("right")
"""


def in_small_partition(folder, script, size="8m"):
    if shutil.which("unshare") is None:
        missing("unshare")
    folder.mkdir()
    inner = f'mount -t tmpfs -o size={size} none {folder} && exec {sys.executable} -c "$0" $1 {folder}/cache'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", inner, script, str(Path(__file__).parents[2])],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_partition_smaller_than_the_quota_does_not_run_full(tmp_path):
    done = in_small_partition(tmp_path / "small", SMALL_PARTITION)

    assert done.stdout == "right\n", done.stderr


FULL_PARTITION = """
import logging, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cernvm.fs.cache import DiskCache
from system.fs_cache.conftest import key, data
said = []
handler = logging.Handler(); handler.emit = said.append; logging.getLogger().addHandler(handler)
folder = Path(sys.argv[2])
cache = DiskCache(folder, quota_bytes=10**12, free_floor_bytes=0)
try:
    with open(folder / "others", "wb", buffering=0) as others:
        while True: others.write(bytes(4096))
except OSError: pass
for number in range(300):
    content = cache.put_small(key(number), data(number))
    assert content.pread(0, 10**6) == data(number)
    if number % 100 == 99:
        while cache._behind.size_bytes: pass
assert 0 < len(said) < 10, [line.getMessage() for line in said]
(folder / "others").unlink()
import time; time.sleep(1.1)
cache.put_small(key(1000), data(1000))
cache.close()
cache = DiskCache(folder, quota_bytes=10**12, free_floor_bytes=0)
assert cache.open(key(1000)).pread(0, 10**6) == data(1000)
cache.close()
print("right")
"""


def test_readers_get_small_content_while_others_have_filled_the_disk(tmp_path):
    done = in_small_partition(tmp_path / "small", FULL_PARTITION)

    assert done.stdout == "right\n", done.stderr


@pytest.mark.soak
def test_a_cleaner_killed_at_any_moment_leaves_a_right_cache(tmp_path, fill, count, seeded):
    """With so small a quota the processes do little but clean."""
    from .test_disk_cache import assert_right

    folder = tmp_path / "cache"
    for turn in range(count(200, 20)):
        process = fill(folder, first=1000 * turn, quota=15 * SIZE, small=turn % 2 == 1)
        for _ in range(seeded.randrange(20, 60)):
            process.stdout.readline()
        time.sleep(seeded.random() * 0.02)
        process.kill()
        process.communicate()
        assert on_disk(folder) <= 17 * SIZE
        if turn % 5 == 4:
            assert_right(folder, [])

    cache = DiskCache(folder, quota_bytes=15 * SIZE)
    assert not cache.check().damaged
    cache.close()


def test_many_threads_put_small_content_and_read_it(tmp_path):
    cache = DiskCache(tmp_path / "cache", quota_bytes=30 * SIZE)
    wrong = []

    def work(seed):
        for step in range(200):
            number = (seed * 13 + step) % 60
            content = cache.open(key(number)) or cache.put_small(key(number), data(number))
            if content.pread(0, 10**6) != data(number):
                wrong.append(number)
            if step % 50 == 49:
                cache.evict(key(number))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    cache.close()

    assert not wrong
    assert on_disk(tmp_path / "cache") <= 30 * SIZE
    assert not os.listdir(tmp_path / "cache/txn")


def test_content_let_go_by_one_thread_is_not_closed_under_another(tmp_path, monkeypatch):
    cache = DiskCache(tmp_path / "cache", quota_bytes=10**9)
    put(cache, 0)
    cache._max_held = 0  # so that each use may be the last one
    with cache._lock:
        cache._held.clear()
    close = os.close

    def close_slowly(descriptor):
        close(descriptor)
        time.sleep(0.002)

    monkeypatch.setattr(os, "close", close_slowly)
    failures = []

    def work():
        try:
            for _ in range(100):
                assert cache.open(key(0)).pread(0, 10**6) == data(0)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    monkeypatch.undo()
    cache.close()

    assert not failures
