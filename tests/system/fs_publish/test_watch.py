"""A folder that is published whenever it changes, and never while somebody writes to it."""

import errno
import os
import queue
import subprocess
import threading
import time
from contextlib import closing

import pytest

from cernvm.core.errors import CvmError, NotFoundError
from cernvm.fs.publish.publishing import Options
from cernvm.fs.publish.watching import watch_tree
from cernvm.fs.publish.watching.inotify import Inotify
from cernvm.fs.publish.watching.watch import NotedWatch

from .conftest import check_equal, read_back


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "file").write_bytes(b"first")
    return root


@pytest.fixture
def watching(repository, store, tree):
    """Begins a watch that ends after so many publications; what it tells."""
    threads = []

    def begin(times, **options):
        told = queue.Queue()

        def run():
            try:
                watch_tree(
                    repository,
                    store,
                    tree,
                    options=Options(),
                    tell=told.put,
                    times=times,
                    **options,
                )
            except CvmError as error:
                told.put(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        threads.append(thread)
        return told

    yield begin
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize("is_polling", [False, True])
def test_a_tree_is_published_after_each_change(repository, store, tree, watching, is_polling):
    told = watching(3, quiet_s=0.1, poll_s=0.05, is_polling=is_polling)
    assert told.get(timeout=20).revision == 1

    (tree / "new" / "deep").mkdir(parents=True)
    (tree / "new" / "deep" / "file").write_bytes(b"new")
    assert told.get(timeout=20).revision == 2
    (tree / "new" / "deep" / "file").write_bytes(b"changed")
    assert told.get(timeout=20).revision == 3
    check_equal(tree, read_back(repository, store)[0])


def test_what_is_half_written_is_not_published(repository, store, tree, watching):
    told = watching(2, quiet_s=0.5)
    told.get(timeout=20)

    with (tree / "sub" / "file").open("wb") as file:
        for _ in range(10):
            file.write(b"part")
            file.flush()
            time.sleep(0.15)
            assert told.empty()
    assert told.get(timeout=20).revision == 2
    assert read_back(repository, store)[0][b"/sub/file"][1] == b"part" * 10


def test_a_tree_that_is_gone_ends_it(tree, watching):
    told = watching(None, quiet_s=0.1)
    told.get(timeout=20)
    (tree / "sub" / "file").unlink()
    (tree / "sub").rmdir()
    tree.rmdir()

    assert isinstance(told.get(timeout=20), NotFoundError)


def test_a_fault_is_told_and_mended_by_the_next_change(repository, store, tree, watching):
    told = watching(2, quiet_s=0.1)
    told.get(timeout=20)
    (tree / ".cvmfsdirtab").write_bytes(b"relative")
    assert "line 1" in told.get(timeout=20).what

    (tree / ".cvmfsdirtab").write_bytes(b"/absolute")
    assert told.get(timeout=20).revision == 2


def test_it_goes_on_when_the_machine_gives_no_more_watches(tree, watching, monkeypatch):
    told = watching(3, quiet_s=0.1, poll_s=0.05)
    told.get(timeout=20)

    def refuse(_self, _directory):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Inotify, "watch", refuse)
    (tree / "new").mkdir()
    assert told.get(timeout=20).revision == 2
    (tree / "new" / "file").write_bytes(b"nobody notes this")
    assert told.get(timeout=20).revision == 3


def test_directories_that_are_gone_are_forgotten(tree):
    with closing(NotedWatch(tree)) as watch:
        for number in range(10):
            (tree / f"d{number}").mkdir()
            watch.forget()
            (tree / f"d{number}").rmdir()
        watch.forget()

        assert len(watch._places) == 2


def test_the_command_ends_on_sigterm(cvm, home, tree):
    from tests.conftest import CVM

    cvm("repo", "create", "w.cernvm.test")
    command = [CVM, "repo", "watch", "w.cernvm.test", str(tree), "--quiet", "0.1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={"CVM_HOME": str(home.path)}
    ) as process:
        assert process.stdout.readline().startswith("revision 1: 1 files")
        process.terminate()
        assert process.wait(10) != 0
