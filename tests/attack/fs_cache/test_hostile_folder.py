"""Whoever shares the machine, or the folder, cannot make the cache serve, write or remove what it should not."""

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import pytest

from cernvm.core.digest import Algorithm
from cernvm.core.errors import DeniedError, SpaceError
from cernvm.fs.cache import AlienCache, ContentKey, DiskCache
from cernvm.fs.format.compress import Compression
from conftest import missing

NOBODY = 61234
CONTENT = b"verified content " * 500
KEY = ContentKey(Algorithm.SHA1.digest(zlib.compress(CONTENT)))


def opened(folder, quota=10**9):
    return DiskCache(folder, quota_bytes=quota)


def filled(folder):
    cache = opened(folder)
    draft = cache.draft(KEY)
    draft.write(CONTENT)
    draft.commit()
    cache.close()
    return folder / KEY.name


@pytest.fixture
def need_root():
    if os.geteuid() != 0:
        missing("only root can act as two users")


@pytest.fixture
def public():
    """A folder that every user can reach, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="cvm-public-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody(script, *arguments):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        check=False,
        user=NOBODY,
        group=NOBODY,
        extra_groups=(),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_folder_that_others_may_write_is_refused(tmp_path, mode):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)

    with pytest.raises(DeniedError, match="may be written by others"):
        opened(tmp_path / "cache")


@pytest.mark.parametrize("below", ["", "txn", "owners"])
def test_a_folder_of_another_user_is_refused(tmp_path, need_root, below):
    filled(tmp_path / "cache")
    os.chown(tmp_path / "cache" / below, NOBODY, NOBODY)

    with pytest.raises(DeniedError, match=f"belongs to user {NOBODY}"):
        opened(tmp_path / "cache")


def test_content_in_a_part_of_another_user_is_neither_read_nor_touched(tmp_path, need_root):
    file = filled(tmp_path / "cache")
    file.write_bytes(b"forged")
    os.chown(file.parent, NOBODY, NOBODY)
    cache = opened(tmp_path / "cache")

    assert cache.open(KEY) is None
    draft = cache.draft(KEY)
    draft.write(CONTENT)
    assert draft.commit().pread(0, 10**6) == CONTENT
    cache.put_small(KEY, CONTENT)
    cache.close()
    assert file.read_bytes() == b"forged"


def test_nothing_is_read_written_or_removed_through_a_link_in_place_of_a_part(tmp_path):
    file = filled(tmp_path / "cache")
    victim = tmp_path / "victim"
    file.parent.rename(victim)
    file.parent.symlink_to(victim)
    (victim / file.name).write_bytes(b"forged")
    cache = opened(tmp_path / "cache")

    assert cache.open(KEY) is None
    draft = cache.draft(KEY)
    draft.write(CONTENT)
    assert draft.commit().pread(0, 10**6) == CONTENT
    cache.evict(KEY)
    cache.clean(0)
    cache.check()
    cache.close()
    assert [(path.name, path.read_bytes()) for path in victim.iterdir()] == [(file.name, b"forged")]


@pytest.mark.parametrize("below", ["txn", "owners"])
def test_nothing_is_written_through_a_link_in_place_of_a_folder(tmp_path, below):
    filled(tmp_path / "cache")
    victim = tmp_path / "victim"
    victim.mkdir()
    shutil.rmtree(tmp_path / "cache" / below)
    (tmp_path / "cache" / below).symlink_to(victim)

    with pytest.raises(SpaceError):
        opened(tmp_path / "cache")
    assert not list(victim.iterdir())


def _link(path):
    (path.parent.parent / "secret").write_bytes(b"secret")
    path.symlink_to(path.parent.parent / "secret")


STRANGE = {
    "link": _link,
    "dangling link": lambda path: path.symlink_to("/nowhere"),
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_file_is_no_content_and_makes_room_for_it(tmp_path, kind):
    file = filled(tmp_path / "cache")
    file.unlink()
    STRANGE[kind](file)
    cache = opened(tmp_path / "cache")

    assert cache.open(KEY) is None
    draft = cache.draft(KEY)
    draft.write(CONTENT)
    draft.commit()
    assert cache.open(KEY).pread(0, 10**6) == CONTENT
    cache.close()
    if kind == "link":
        assert (tmp_path / "cache/secret").read_bytes() == b"secret"


def test_a_reader_gets_its_data_where_something_immovable_stands_in_place(tmp_path):
    file = filled(tmp_path / "cache")
    file.unlink()
    (file / "full").mkdir(parents=True)
    cache = opened(tmp_path / "cache")
    draft = cache.draft(KEY)
    draft.write(CONTENT)

    content = draft.commit()

    assert content.pread(0, 10**6) == CONTENT
    assert cache.usage().used_bytes >= len(CONTENT), "its space is counted while it is read"
    del content
    cache.close()
    assert not list((tmp_path / "cache/txn").iterdir())


def test_a_huge_sparse_file_is_found_damaged_without_being_read(tmp_path):
    file = filled(tmp_path / "cache")
    os.truncate(file, 1 << 42)
    cache = opened(tmp_path / "cache")

    assert cache.check().damaged == (KEY.name,)
    assert cache.open(KEY) is None
    cache.close()


def test_a_link_in_place_of_the_index_leads_nowhere(tmp_path):
    filled(tmp_path / "cache")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "cache/index").unlink()
    (tmp_path / "cache/index").symlink_to(victim)

    cache = opened(tmp_path / "cache")

    assert cache.open(KEY).pread(0, 10**6) == CONTENT
    assert cache.usage().used_bytes == len(CONTENT)
    cache.close()
    assert victim.read_bytes() == b"precious"


def test_names_in_a_forged_index_remove_nothing_outside(tmp_path):
    filled(tmp_path / "cache")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    inside = tmp_path / "cache/cvmfschecksum.a.b"
    inside.write_bytes(b"x")
    with sqlite3.connect(tmp_path / "cache/index") as index:
        for name in ("../victim", str(victim), "ab/../../victim", "cvmfschecksum.a.b", ""):
            index.execute("INSERT INTO objects VALUES (?, 1000, 2, 0, NULL)", (name,))
    index.close()

    cache = opened(tmp_path / "cache")
    cache.check()
    cache.clean(0)
    cache.close()

    assert victim.exists()
    assert inside.exists()
    assert not (tmp_path / "cache" / KEY.name).exists()


def test_an_index_with_other_rules_is_made_anew(tmp_path):
    filled(tmp_path / "cache")
    with sqlite3.connect(tmp_path / "cache/index") as index:
        index.execute("DROP TABLE objects")
        index.execute("CREATE TABLE objects (name TEXT, size_bytes, rank, turn, checksum)")
        index.execute("INSERT INTO objects VALUES ('ab/x', 'text', 'more', 'text', 7)")
        index.execute("CREATE TRIGGER more AFTER DELETE ON pins BEGIN DELETE FROM objects; END")
    index.close()

    cache = opened(tmp_path / "cache", quota=10**6)

    assert cache.open(KEY).pread(0, 10**6) == CONTENT
    assert cache.usage().used_bytes == len(CONTENT)
    cache.close()


def test_absurd_sizes_cannot_be_written_into_the_index(tmp_path):
    filled(tmp_path / "cache")
    with sqlite3.connect(tmp_path / "cache/index") as index:
        for row in (
            "('ab/x', -1, 2, 0, NULL)",
            "('ab/x', 1, 77, 0, NULL)",
            "('ab/x', 't', 2, 0, NULL)",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                index.execute(f"INSERT INTO objects VALUES {row}")
    index.close()


PRY = """
import sys
from pathlib import Path
folder = Path(sys.argv[1])
seen = []
for act in (lambda: next(folder.glob("??/*")).read_bytes(), lambda: (folder / "ab/x").write_bytes(b""),
            lambda: (folder / "txn/x").write_bytes(b""), lambda: (folder / "index").read_bytes(),
            lambda: (folder / "index").write_bytes(b""), lambda: list((folder / "owners").iterdir()),
            lambda: next(folder.glob("??/*")).unlink()):
    try: act(); seen.append("yes")
    except (OSError, StopIteration): seen.append("no")
print(*seen)
"""


def test_another_user_can_neither_read_nor_write_a_cache(public, need_root):
    filled(public / "cache")

    assert as_nobody(PRY, public / "cache").stdout.split() == ["no"] * 7


def test_a_cache_that_all_may_read_can_be_read_by_others_and_nothing_more(public, need_root):
    old_mask = os.umask(0o077)
    cache = DiskCache(public / "cache", quota_bytes=10**9, is_readable_by_all=True)
    os.umask(old_mask)
    draft = cache.draft(KEY)
    draft.write(CONTENT)
    draft.commit()
    small = ContentKey(Algorithm.SHA1.digest(b"small"))
    cache.put_small(small, b"small")
    cache.close()

    read = (
        "import sys; from pathlib import Path; from cernvm.core.digest import parse_digest;"
        "from cernvm.fs.cache import *\n"
        "cache = AlienCache(Path(sys.argv[1]), writes=False)\n"
        "for text in sys.argv[2:]: print(cache.open(ContentKey(parse_digest(text))).size_bytes)"
    )
    done = as_nobody(read, public / "cache", KEY.digest, small.digest)

    assert done.stdout.split() == [str(len(CONTENT)), "5"], done.stderr
    assert as_nobody(PRY, public / "cache").stdout.split() == ["yes"] + ["no"] * 6


def test_a_hostile_user_cannot_fill_the_cache_of_another_in_a_shared_place(public, need_root):
    """The classic: the attacker makes the folder that the victim will use."""
    shared = public / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    made = as_nobody(
        "import sys, os; os.makedirs(sys.argv[1], 0o700); print('made')", shared / "cache/ab"
    )
    assert made.stdout == "made\n"

    with pytest.raises(DeniedError):
        opened(shared / "cache")


def alien(folder, **content):
    folder.mkdir()
    for name, data in content.items():
        (folder / name[:2]).mkdir(exist_ok=True)
        (folder / name[:2] / name[2:]).write_bytes(data)
    return folder


def test_an_alien_cache_that_everybody_may_write_is_refused(tmp_path):
    folder = alien(tmp_path / "alien")
    folder.chmod(0o1777)

    with pytest.raises(DeniedError, match="everybody may write"):
        AlienCache(folder, writes=False)


def test_nothing_is_believed_from_a_part_that_everybody_may_write(tmp_path):
    folder = alien(tmp_path / "alien", **{KEY.digest.hex: b"forged"})
    (folder / KEY.name[:2]).chmod(0o777)
    cache = AlienCache(folder, writes=False)

    assert cache.open(KEY) is None
    cache.close()


def test_stored_bytes_in_place_of_content_are_refused(tmp_path):
    """A repository that calls another's compressed object uncompressed has the original cache its stored form."""
    folder = alien(tmp_path / "alien", **{KEY.digest.hex: zlib.compress(CONTENT)})
    cache = AlienCache(folder, writes=False)

    assert cache.open(KEY) is None
    cache.close()


def test_uncompressed_content_of_others_is_verified(tmp_path):
    right, wrong = (hashlib.sha1(data).hexdigest() for data in (b"right", b"wrong"))
    folder = alien(tmp_path / "alien", **{right: b"right", wrong: b"forged"})
    cache = AlienCache(folder, writes=False)

    def read(data):
        return cache.open(ContentKey(Algorithm.SHA1.digest(data), Compression.NONE))

    assert read(b"right").pread(0, 99) == b"right"
    assert read(b"wrong") is None
    cache.close()


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_file_in_an_alien_cache_is_no_content(tmp_path, kind):
    folder = alien(tmp_path / "alien")
    (folder / KEY.name[:2]).mkdir()
    STRANGE[kind](folder / KEY.name)
    cache = AlienCache(folder, writes=False)

    assert cache.open(KEY) is None
    cache.close()


def test_content_of_others_that_proved_damaged_is_not_served_again(tmp_path):
    folder = alien(tmp_path / "alien", **{KEY.digest.hex: b"short"})
    cache = AlienCache(folder, writes=False)
    assert cache.open(KEY) is not None
    cache.evict(KEY)

    assert cache.open(KEY) is None
    assert (folder / KEY.name).exists()
    cache.close()
