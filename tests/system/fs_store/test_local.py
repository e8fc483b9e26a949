"""A store on a real disk: full disks, files lost with the power, leftovers."""

import errno
import fcntl
import itertools
import os
import subprocess
import sys
import threading
import time

import pytest

from cernvm.core.digest import Algorithm
from cernvm.core.errors import SpaceError
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.store import local
from cernvm.fs.store.local import LocalStore


def object_of(data):
    return object_path(Algorithm.SHA1.digest(data), ObjectKind.PLAIN)


def test_leftovers_of_a_dead_publisher_are_swept(tmp_path):
    store = LocalStore(tmp_path / "store")
    with store.exclusive():
        pass
    leftover, fresh = (store.folder / f"data/txn/{number}" for number in ("123-4-5", "123-4-6"))
    leftover.write_bytes(b"half an obj")
    os.utime(leftover, (time.time() - 100,) * 2)
    fresh.write_bytes(b"half an obj")

    with store.exclusive():
        assert not leftover.exists()
        assert fresh.exists(), "its writer may live"


def test_an_object_has_no_name_before_it_is_whole(tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "store")
    seen = []

    def write(descriptor, data):
        os.write(descriptor, data[:3])
        seen.append({path for path in store.folder.rglob("*") if path.is_file()})
        raise OSError(errno.ENOSPC, "as if full")

    monkeypatch.setattr(local, "_write_all", write)
    with pytest.raises(SpaceError):
        store.put(object_of(b"whole"), b"whole")

    assert seen == [{store.folder / "data/txn/synced"}]


def test_a_file_system_that_links_no_nameless_files_is_written_beside(tmp_path, monkeypatch):
    asked = []

    def refuse(final, data):
        asked.append(final)
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(local, "_link_file", refuse)
    store = LocalStore(tmp_path / "store")
    for data in (b"one", b"two"):
        store.put(object_of(data), data)

    assert [store.get(object_of(data)) for data in (b"one", b"two")] == [b"one", b"two"]
    assert len(asked) == 1, "once is enough to know"


def test_an_object_that_is_put_again_replaces_what_rotted(tmp_path):
    store = LocalStore(tmp_path / "store")
    store.put(object_of(b"whole"), b"whole")
    (store.folder / object_of(b"whole")).write_bytes(b"rotten")

    store.put(object_of(b"whole"), b"whole")

    assert store.get(object_of(b"whole")) == b"whole"


def test_a_slow_writer_keeps_its_file(tmp_path):
    store = LocalStore(tmp_path / "store")
    with store.exclusive():
        pass
    slow = store.folder / "data/txn/123-4-5"
    with slow.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        os.utime(slow, (time.time() - 100,) * 2)
        with store.exclusive():
            assert slow.exists()


def test_objects_lost_with_the_power_are_not_believed_to_be_there(tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "store")
    with store.exclusive():
        store.put(object_of(b"whole"), b"whole")
        store.put(object_of(b"lost"), b"lost")
    # the machine went down before anything was synced: the name is there, the content is not
    (store.folder / object_of(b"lost")).write_bytes(b"")
    (store.folder / "data/txn/synced").write_bytes(b"another-boot\n")

    again = LocalStore(store.folder)
    with again.exclusive():
        assert again.has(object_of(b"whole"))
        assert not again.has(object_of(b"lost"))


def test_what_another_process_put_is_synced_before_a_root_document(tmp_path, monkeypatch):
    store, worker = LocalStore(tmp_path / "store"), LocalStore(tmp_path / "store")
    synced = []
    monkeypatch.setattr(local, "_syncfs", lambda _: synced.append(set(store.paths())))
    with store.exclusive():
        worker.put(object_of(b"a"), b"a")
        store.replace(".cvmfspublished", b"x")

    assert synced[0] == {object_of(b"a")}


def test_only_objects_younger_than_the_last_sync_are_in_doubt(tmp_path):
    store = LocalStore(tmp_path / "store")
    with store.exclusive():
        store.put(object_of(b"old"), b"old")
        store.replace(".cvmfspublished", b"x")
    (store.folder / object_of(b"old")).write_bytes(b"rotten")  # as a bad disk does it
    yesterday = time.time() - 86400
    os.utime(store.folder / object_of(b"old"), (yesterday, yesterday))
    (store.folder / "data/txn/synced").write_bytes(b"another-boot\n")

    with store.exclusive():
        assert store.has(object_of(b"old")), "a check of the data has to tell, not a reboot"


def test_what_was_put_by_who_does_not_hold_the_store_is_in_doubt_too(tmp_path):
    store = LocalStore(tmp_path / "store")
    store.put(object_of(b"lost"), b"lost")
    (store.folder / object_of(b"lost")).write_bytes(b"")
    (store.folder / "data/txn/synced").write_bytes(b"another-boot\n")

    with store.exclusive():
        assert not store.has(object_of(b"lost"))


def test_what_another_process_is_writing_is_not_swept(tmp_path):
    store = LocalStore(tmp_path / "store")
    errors = []
    ended = threading.Event()

    def write():
        try:
            for number in itertools.count():
                store.put(f"data/00/{number:038}", bytes(100_000))
                if ended.is_set():
                    return
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(30):
        with LocalStore(store.folder).exclusive():
            pass
    ended.set()
    writer.join()

    assert errors == []


FULL_DISK = """\
import sys
from pathlib import Path
from cernvm.core import linux
from cernvm.core.errors import SpaceError
from cernvm.fs.store.local import LocalStore
folder = Path(sys.argv[1])
linux.unshare(linux.CLONE_NEWNS)
linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
linux.mount("tmpfs", folder, "tmpfs", options="size=1m")
store = LocalStore(folder)
with store.exclusive():
    store.put("data/00/" + "0" * 38, bytes(1000))
    try:
        for number in range(20):
            store.put(f"data/01/{number:038}", bytes(200_000))
    except SpaceError as error:
        print("SpaceError", error, error.advice)
    left = [p.name for p in (folder / "data/txn").iterdir()]
    print(sorted(left), store.get("data/00/" + "0" * 38) == bytes(1000))
"""


def test_a_full_disk_is_named_and_leaves_no_part(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root for a mount namespace")
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert "No space left on device" in child.stdout, child.stderr
    assert "free some space" in child.stdout
    assert "['publisher.lock', 'synced'] True" in child.stdout
