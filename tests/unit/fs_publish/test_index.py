import os
import time
from types import SimpleNamespace

import pytest

from cernvm.core.digest import Algorithm
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import Chunk
from cernvm.fs.format.pack import Pack
from cernvm.fs.publish import index as indexes
from cernvm.fs.publish.content import Content
from cernvm.fs.publish.index import KnownFile, open_index

DIGEST = Algorithm.SHAKE128.digest(b"x")
WHOLE = KnownFile(Content(5, DIGEST), Compression.NONE, {b"user.x": b"\0y"})
CUT = KnownFile(Content(5, None, (Chunk(0, 2, DIGEST), Chunk(2, 3, DIGEST))), Compression.ZLIB)


def status(inode=7, *, size=5, age_s=60, ctime_offset=0, device=(1 << 63) + 5):
    then = time.time_ns() - int(age_s * 10**9)
    then -= then % 10**9
    return SimpleNamespace(
        st_dev=device, st_ino=inode, st_size=size, st_mtime_ns=then, st_ctime_ns=then + ctime_offset
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a" / "index"


def remember(path, *files, recipe=""):
    with open_index(path, recipe=recipe) as index:
        for one, known in files:
            index.remember_file(one, known)
        index.save()


@pytest.mark.parametrize("known", [WHOLE, CUT])
def test_a_file_is_known_while_nothing_about_it_changed(path, known):
    one = status()
    remember(path, (one, known))

    with open_index(path) as index:
        assert index.file(one) == known
        for other in (
            {**vars(one), "st_size": 6},
            {**vars(one), "st_mtime_ns": one.st_mtime_ns + 1},
            {**vars(one), "st_ctime_ns": one.st_ctime_ns + 1},
            {**vars(one), "st_ino": 8},
            {**vars(one), "st_dev": 8},
        ):
            assert index.file(SimpleNamespace(**other)) is None


def test_what_changed_a_moment_ago_is_not_remembered(path):
    one = status(age_s=0.5)
    remember(path, (one, WHOLE))
    with open_index(path) as index:
        assert index.file(one) is None


def test_what_changed_just_before_a_long_publication_is_not_remembered_at_its_end(
    path, monkeypatch
):
    one = status(age_s=0.5)
    with open_index(path) as index:
        later = time.time_ns() + 60 * 10**9
        monkeypatch.setattr(indexes.time, "time_ns", lambda: later)
        index.remember_file(one, WHOLE)
        assert index.file(one) is None
        index.save()
    with open_index(path) as index:
        assert index.file(one) is None


def test_what_is_not_saved_is_forgotten(path):
    one = status()
    with open_index(path) as index:
        index.remember_file(one, WHOLE)
    with open_index(path) as index:
        assert index.file(one) is None


def test_files_that_were_stored_in_another_way_are_not_known(path):
    one = status()
    remember(path, (one, WHOLE), recipe="zlib")
    with open_index(path, recipe="none") as index:
        assert index.file(one) is None
    with open_index(path, recipe="zlib") as index:  # it was made anew
        assert index.file(one) is None


def test_memory_is_flat_while_much_is_remembered(path):
    files = [status(inode) for inode in range(5_000)]
    with open_index(path) as index:
        for one in files:
            index.remember_file(one, WHOLE)
            assert len(index._files) < 1_000
        assert index.file(files[0]) == WHOLE
        index.save()
    with open_index(path) as index:
        assert all(index.file(one) == WHOLE for one in files)


def test_what_was_not_met_for_months_is_forgotten(path, monkeypatch):
    gone, kept = status(1), status(2)
    remember(path, (gone, WHOLE), (kept, WHOLE))
    started = time.time()
    for days in (60, 130):
        monkeypatch.setattr(indexes.time, "time", lambda days=days: started + days * 86_400)
        with open_index(path) as index:
            assert index.file(kept) == WHOLE
            index.save()

    with open_index(path) as index:
        assert index.file(gone) is None
        assert index.file(kept) == WHOLE


def test_only_the_newest_packs_are_remembered(path, monkeypatch):
    monkeypatch.setattr(indexes, "_MOST_PACKS", 10)
    for number in range(25):
        with open_index(path) as index:
            index.remember_pack(b"%d" % number, Pack(DIGEST, number + 1, 1))
            index.save()

    with open_index(path) as index:
        known = [number for number in range(25) if index.pack(b"%d" % number) is not None]
    assert known == list(range(15, 25))


@pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_one_is_made_anew(path, damage):
    one = status()
    remember(path, (one, WHOLE))
    path.write_bytes(damage)
    remember(path, (one, WHOLE))
    with open_index(path) as index:
        assert index.file(one) == WHOLE
    assert os.path.getsize(path) > 0
