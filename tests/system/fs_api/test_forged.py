"""Repositories that no publisher of ours would make, read and copied without a mount."""

import contextlib
import inspect
import sys
import threading
import time
from dataclasses import replace

import pytest

from attack.fs_reader.forge import CatalogMaker, Client, Forge, directory
from cernvm.cli.fs import _row, _walk
from cernvm.fs.api import Files, RepositoryPath, fsspec_files
from cernvm.fs.api.copying import copy_out

DEEP = 250


@pytest.fixture
def forge():
    return Forge()


@pytest.fixture
def opened(forge):
    def files(entries, **more):
        return Files(Client(forge.publish(CatalogMaker(b"", entries, **more)).documents).mount())

    return files


@contextlib.contextmanager
def shallow_stack():
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + DEEP // 2)
    try:
        yield
    finally:
        sys.setrecursionlimit(usual)


def test_a_tree_that_is_deeper_than_the_stack_is_walked(opened, forge, tmp_path):
    deep = {b"/d" * depth: directory(b"d") for depth in range(1, DEEP + 1)}
    files = opened({**deep, b"/d" * DEEP + b"/f": forge.file(b"f", b"bottom")})
    root = RepositoryPath(files)

    with shallow_stack():
        assert sum(len(names) for _, _, names in root.walk()) == 1
        assert [str(path) for path in root.glob("**/f")] == ["/d" * DEEP + "/f"]
        assert len(list(_walk(files, b"/", None))) == DEEP + 1
        assert len(list(_walk(files, b"/", 3))) == 3
        assert len(list(copy_out(files, b"/", tmp_path / "copy", recursive=True))) == DEEP + 2


def test_a_copy_that_is_given_up_ends_at_once_and_leaves_no_part(opened, forge, tmp_path):
    entries = {b"/f%d" % n: forge.file(b"f%d" % n, b"content") for n in range(40)}
    files = opened(entries)
    ends = threading.Event()

    class Endless:
        """Content that goes on until the test is over."""

        def read(self, _offset, _size_bytes):
            return b"" if ends.wait(0.01) else b"more"

        def close(self):
            pass

    really = files.open
    files.open = lambda path: really(path) if path == b"/f0" else Endless()
    copying = copy_out(files, b"/", tmp_path / "copy", recursive=True)
    assert [next(copying).path, next(copying).path] == [b"/", b"/f0"]
    threading.Timer(8, ends.set).start()
    began = time.monotonic()
    copying.close()

    assert time.monotonic() - began < 3
    ends.set()
    assert not [path for path in (tmp_path / "copy").iterdir() if path.suffix == ".part"]


def test_times_beyond_all_calendars_are_shown_and_copied(opened, forge, tmp_path):
    entries = {
        b"/late": replace(forge.file(b"late", b"content"), mtime_s=2**62),
        b"/early": replace(forge.file(b"early", b"content"), mtime_s=-(2**62)),
    }
    files = opened(entries)

    for path in entries:
        assert _row(files, path)["mtime"]
        assert RepositoryPath(files, path.decode()).stat().st_size == 7
    assert len(list(copy_out(files, b"/", tmp_path / "copy", recursive=True))) == 3


def test_a_repository_that_opens_slowly_keeps_nobody_from_another(monkeypatch, opened, forge):
    files = opened({b"/f": forge.file(b"f", b"content")})
    may_go_on, asked = threading.Event(), threading.Event()

    class Opened:
        name = "quick.test"

        def __init__(self):
            self.files = files

        def close(self):
            pass

    def open_repository(name, **_):
        if name == "slow.test":
            asked.set()
            may_go_on.wait(8)
        return Opened()

    monkeypatch.setattr(fsspec_files, "open_repository", open_repository)
    system = fsspec_files.CvmfsFileSystem(skip_instance_cache=True)
    system.cat_file("quick.test/f")
    slow = threading.Thread(target=system.cat_file, args=("slow.test/f",))
    slow.start()
    assert asked.wait(5)
    began = time.monotonic()

    assert system.cat_file("quick.test/f") == b"content"
    assert system.cat_file("another.test/f") == b"content"

    assert time.monotonic() - began < 3
    may_go_on.set()
    slow.join(10)
    system.close()
