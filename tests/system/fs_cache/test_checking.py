"""Rotten content is found: when asked, a little in the background, and after a loss of power."""

import os
import resource
from contextlib import suppress

import pytest

from cernvm.core.errors import SpaceError
from cernvm.fs.cache import DiskCache

from .conftest import data, key
from .test_disk_cache import assert_right, leave_as_if_killed

QUOTA = 10**9


@pytest.fixture
def folder(tmp_path):
    """A cache of ten objects, half of them written behind; the fourth has a flipped bit."""
    folder = tmp_path / "cache"
    cache = DiskCache(folder, quota_bytes=QUOTA)
    for number in range(10):
        if number % 2:
            cache.put_small(key(number), data(number))
        else:
            draft = cache.draft(key(number))
            draft.write(data(number))
            draft.commit()
    cache.close()
    flip(folder, 4)
    return folder


def flip(folder, number):
    with (folder / key(number).name).open("r+b") as file:
        byte = file.read(1)[0]
        file.seek(0)
        file.write(bytes([byte ^ 1]))


def test_a_flipped_bit_is_found_and_only_told(folder):
    cache = DiskCache(folder, quota_bytes=QUOTA)
    found = cache.check(repair=False)

    assert (found.objects, found.damaged, found.unrecorded) == (10, (key(4).name,), 0)
    assert cache.open(key(4)) is not None
    cache.close()


def test_what_is_damaged_is_removed_and_can_be_kept_elsewhere(folder, tmp_path):
    cache = DiskCache(folder, quota_bytes=QUOTA)
    found = cache.check(quarantine=tmp_path / "quarantine")

    assert found.damaged == (key(4).name,)
    assert cache.open(key(4)) is None
    assert cache.check().damaged == ()
    cache.close()
    kept = tmp_path / "quarantine" / key(4).name.replace("/", "")
    assert kept.read_bytes()[1:] == data(4)[1:]
    assert_right(folder, [n for n in range(10) if n != 4])


def test_the_background_check_comes_round_to_everything(folder):
    cache = DiskCache(folder, quota_bytes=QUOTA)
    for _ in range(3):
        cache._checker.check_some()

    assert cache.open(key(4)) is None
    assert cache.open(key(5)) is not None
    cache.close()


def test_content_without_a_checksum_gets_one(folder):
    for suffix in ("", "-wal", "-shm"):
        (folder / f"index{suffix}").unlink(missing_ok=True)
    flip(folder, 4)
    cache = DiskCache(folder, quota_bytes=QUOTA)

    assert cache.check().unrecorded == 10
    assert cache.check().unrecorded == 0
    flip(folder, 6)
    assert cache.check().damaged == (key(6).name,)
    cache.close()


def test_after_a_loss_of_power_what_was_not_synced_must_have_its_bytes(folder):
    flip(folder, 4)
    lost = folder / key(7).name
    lost.write_bytes(bytes(len(data(7))))  # of the right size, as some file systems leave it
    leave_as_if_killed(folder, boot_id=b"an earlier boot")

    assert_right(folder, [n for n in range(10) if n != 7])
    assert not lost.exists()


def test_after_a_loss_of_power_old_files_are_not_read_again(folder):
    for number in range(10):
        os.utime(folder / key(number).name, (1, 1))
    newest = folder / key(9).name
    os.utime(newest, (10**9, 10**9))
    leave_as_if_killed(folder, boot_id=b"an earlier boot")

    cache = DiskCache(folder, quota_bytes=QUOTA)
    assert cache.open(key(4)) is not None, "it rots unseen until the next check"
    assert cache.check().damaged == (key(4).name,)
    cache.close()


def test_without_a_free_descriptor_nothing_is_taken_for_damaged(folder):
    cache = DiskCache(folder, quota_bytes=QUOTA)
    taken = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        cache._checker.check_some()
        with pytest.raises(SpaceError, match="open files"):
            cache.check()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)

    assert cache.check().damaged == (key(4).name,)
    cache.close()
    assert_right(folder, [n for n in range(10) if n != 4])
