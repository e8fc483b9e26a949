"""The cache in a folder: shared, killed, damaged, full."""

import shutil
import sqlite3
import subprocess
import sys
import time

import pytest

from cernvm.core.errors import SpaceError
from cernvm.fs.cache import DiskCache

from .conftest import data, key

QUOTA = 10**9


def opened(folder, quota=QUOTA):
    return DiskCache(folder, quota_bytes=quota)


def put(cache, number):
    draft = cache.draft(key(number))
    draft.write(data(number))
    return draft.commit()


def assert_right(folder, numbers):
    """Every file of the cache is whole, those of `numbers` are there, and the index says what the files say."""
    cache = opened(folder)
    for number in numbers:
        content = cache.open(key(number))
        assert content is not None, f"{number} was committed and is gone"
        assert content.pread(0, 10**6) == data(number)
    used_bytes = cache.usage().used_bytes
    cache.close()
    files = [path for path in folder.glob("??/*") if path.is_file()]
    assert used_bytes == sum(path.stat().st_size for path in files)
    assert not list((folder / "txn").iterdir())
    with sqlite3.connect(folder / "index") as index:
        rows = dict(index.execute("SELECT name, size_bytes FROM objects"))
        assert index.execute("SELECT COUNT(*) FROM pins").fetchone() == (0,)
    index.close()
    assert rows == {str(path.relative_to(folder)): path.stat().st_size for path in files}


def test_content_is_there_after_a_restart(tmp_path):
    cache = opened(tmp_path / "cache")
    put(cache, 1)
    cache.close()

    assert_right(tmp_path / "cache", [1])


@pytest.mark.soak
def test_a_process_killed_at_any_moment_leaves_a_right_cache(tmp_path, fill, count, seeded):
    committed = set()
    for turn in range(count(200, 20)):
        process = fill(tmp_path / "cache", first=1000 * turn, count=400)
        committed.add(int(process.stdout.readline()))
        time.sleep(seeded.random() * 0.03)
        process.kill()
        rest = process.communicate()[0].split("\n")
        committed |= {int(line) for line in rest[:-1] if line}
        if turn % 5 == 4:
            assert_right(tmp_path / "cache", committed)

    assert_right(tmp_path / "cache", committed)


def test_two_processes_share_one_cache_and_its_quota(tmp_path, fill):
    folder, quota = tmp_path / "cache", 600_000
    processes = [fill(folder, first=first, count=150, quota=quota) for first in (0, 100)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0

    cache = opened(folder, quota)
    assert 0 < cache.usage().used_bytes <= quota
    for number in range(250):
        content = cache.open(key(number))
        assert content is None or content.pread(0, 10**6) == data(number)
    cache.close()
    assert_right(folder, [])


def test_content_of_another_process_is_a_hit(tmp_path, fill):
    process = fill(tmp_path / "cache", count=3, hold=True)
    while process.stdout.readline() != "2\n":
        pass
    cache = opened(tmp_path / "cache")

    assert cache.open(key(2)).pread(0, 10**6) == data(2)
    cache.close()
    process.communicate("")
    assert process.returncode == 0


def test_drafts_of_the_living_stay_and_those_of_the_dead_go(tmp_path, fill):
    folder = tmp_path / "cache"
    cache = opened(folder)
    draft = cache.draft(key(1))
    draft.write(b"half")
    (folder / "txn/feedface.1").write_bytes(b"of a dead process")

    other = opened(folder)

    assert [path.read_bytes() for path in (folder / "txn").iterdir()] == [b"half"]
    draft.discard()
    other.close()
    cache.close()


def test_pins_end_with_their_process(tmp_path, fill):
    script = (
        "import sys, os; from pathlib import Path; from cernvm.fs.cache import DiskCache\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from cernvm.core.digest import Algorithm; from cernvm.fs.cache import ContentKey\n"
        f"cache = DiskCache(Path({str(tmp_path / 'cache')!r}), quota_bytes={QUOTA})\n"
        "key = ContentKey(Algorithm.SHA1.digest(b'x')); draft = cache.draft(key)\n"
        "draft.write(b'x' * 1000); draft.commit(); cache.pin(key)\n"
        "cache.make_room(); print(cache.usage().pinned_bytes, flush=True); os.kill(os.getpid(), 9)\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert died.stdout == "1000\n", died.stderr

    cache = opened(tmp_path / "cache")
    assert cache.usage().pinned_bytes == 0
    assert cache.usage().used_bytes == 1000
    cache.close()


def _another_table(index):
    index.unlink()
    connection = sqlite3.connect(index)
    connection.execute("CREATE TABLE objects (x)")
    connection.close()


DAMAGES = {
    "emptied": lambda index: index.write_bytes(b""),
    "garbage": lambda index: index.write_bytes(b"this is no database" * 1000),
    "cut": lambda index: index.write_bytes(index.read_bytes()[:5000]),
    "gone": lambda index: index.unlink(),
    "another table": _another_table,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_rebuilt_from_the_files(tmp_path, damage):
    cache = opened(tmp_path / "cache")
    for number in range(20):
        put(cache, number)
    cache.close()
    DAMAGES[damage](tmp_path / "cache/index")

    assert_right(tmp_path / "cache", range(20))


@pytest.mark.parametrize("damage", ["garbage", "gone"])
def test_an_index_damaged_under_a_living_process_is_rebuilt(tmp_path, damage):
    cache = opened(tmp_path / "cache")
    put(cache, 1)
    cache.make_room()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"cache/index{suffix}").unlink(missing_ok=True)
    DAMAGES[damage](tmp_path / "cache/index")
    put(cache, 2)
    cache.close()

    assert_right(tmp_path / "cache", [2])


def test_a_file_that_lost_bytes_is_removed_after_a_crash(tmp_path, fill):
    folder = tmp_path / "cache"
    cache = opened(folder)
    put(cache, 1)
    put(cache, 2)
    cache.close()
    (folder / key(1).name).write_bytes(b"short")
    leave_as_if_killed(folder)

    assert_right(folder, [2])
    cache = opened(folder)
    assert cache.open(key(1)) is None
    cache.close()


def test_after_a_loss_of_power_files_without_a_row_are_distrusted(tmp_path):
    folder = tmp_path / "cache"
    cache = opened(folder)
    put(cache, 1)
    cache.close()
    unknown = folder / key(2).name
    unknown.parent.mkdir(exist_ok=True)
    unknown.write_bytes(bytes(len(data(2))))
    leave_as_if_killed(folder, boot_id=b"an earlier boot")

    assert_right(folder, [1])
    assert not unknown.exists()


def leave_as_if_killed(folder, boot_id=None):
    from cernvm.fs.cache.owners import _boot_id

    (folder / "owners/feedface").write_bytes(_boot_id() if boot_id is None else boot_id)


FULL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cernvm.core.errors import SpaceError
from cernvm.fs.cache import DiskCache
from system.fs_cache.conftest import key, data
folder = Path(sys.argv[2])
cache = DiskCache(folder, quota_bytes=10**9)
for number in range(400):
    draft = cache.draft(key(number))
    draft.write(data(number))
    draft.commit()
assert cache.open(key(399)).pread(0, 10**6) == data(399)
used = cache.usage().used_bytes
assert 0 < used < 4_000_000, used
draft = cache.draft(key(1000))
try:
    for _ in range(100): draft.write(bytes(100_000))
except SpaceError as error:
    assert "No space left" in str(error), error
else:
    raise AssertionError("no error")
assert not list((folder / "txn").iterdir())
cache.close()
print("right")
"""


def test_a_full_disk_evicts_and_then_says_so(tmp_path):
    from pathlib import Path

    if shutil.which("unshare") is None:
        from conftest import missing

        missing("unshare")
    folder = tmp_path / "small"
    folder.mkdir()
    script = f'mount -t tmpfs -o size=4m none {folder} && exec {sys.executable} -c "$0" $1 {folder}/cache'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, FULL, str(Path(__file__).parents[2])],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stdout == "right\n", done.stderr


def test_a_cache_removed_under_a_living_process_begins_anew(tmp_path):
    cache = opened(tmp_path / "cache")
    content = put(cache, 1)
    cache.make_room()
    shutil.rmtree(tmp_path / "cache")

    assert content.pread(0, 10**6) == data(1)
    put(cache, 2)
    cache.make_room()
    put(cache, 3)
    cache.close()

    assert_right(tmp_path / "cache", [3])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SpaceError, match="file/cache"):
        opened(tmp_path / "file/cache")
