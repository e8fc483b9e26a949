"""Content is stored by worker processes once there is enough of it; none of them is ever waited for in vain."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cernvm.core.errors import ChangedError, HostError, NotFoundError
from cernvm.fs.format.chunker import ChunkSizes, CutFinder
from cernvm.fs.publish.content import Progress, Recipe, open_writer
from cernvm.fs.publish.source import walk
from cernvm.fs.store.local import LocalStore
from cernvm.fs.store.memory import MemoryStore


@pytest.fixture
def many(tmp_path):
    """A tree with more files than the threads are left alone with."""
    source = random.Random(7)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(900):
        (folder / f"{number:04}").write_bytes(source.randbytes(200) * source.randrange(40))
    return folder


def store_all(store, tree, **options):
    """(the content of each path, the writer's progress)."""
    found, progress = {}, Progress()
    with open_writer(store, Recipe(), progress=progress, **options) as writer:
        for one in walk(tree):
            if one.is_file:
                writer.add(one, lambda _s, content, path=one.path: found.update({path: content}))
        processes = [link.pid for link in writer._crew._links]
    return found, progress, processes


def wait_for_processes(writer):
    until = time.monotonic() + 20
    while not writer._crew._is_relieved.is_set():
        assert time.monotonic() < until, "the processes did not get ready"
        time.sleep(0.01)


def ignore(_status, _content):
    pass


@pytest.mark.parametrize("lanes", [2, 16])
def test_processes_store_what_threads_store(tmp_path, many, lanes):
    memory, local = MemoryStore(), LocalStore(tmp_path / "store")
    local.lanes = lanes  # as a store that is far away has: several threads in each process

    expected, _, no_processes = store_all(memory, many, workers=2)
    found, progress, processes = store_all(local, many, workers=2)

    assert found == expected
    assert not no_processes
    assert len(processes) == 2
    assert {path: local.get(path) for path in local.paths()} == memory.content
    assert progress.stored_bytes == sum(map(len, memory.content.values()))


def test_once_they_are_ready_processes_do_all_the_work(tmp_path, many):
    files = [one for one in walk(many) if one.is_file]
    with open_writer(LocalStore(tmp_path / "store"), Recipe(), workers=2) as writer:
        for one in files:
            writer.add(one, ignore)
        writer.finish()
        wait_for_processes(writer)
        until = time.monotonic() + 20
        while any(thread.is_alive() for thread in writer._crew._threads):
            assert time.monotonic() < until, "a thread goes on beside the processes"
            for _ in range(3):  # each thread may take one job more
                writer.add_bytes(os.urandom(2 << 20), ignore)
            writer.finish()
        writer.add_bytes(b"by a process", lambda _s, content: files.append(content))
    assert files[-1].size == 12


def test_a_large_file_is_spread_and_cut_at_its_marks(tmp_path):
    unit = random.Random(3).randbytes(1 << 20)
    data = b"".join(unit[at:] + unit[:at] for at in range(0, 70_000, 1000))
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "large").write_bytes(b"x" + data)
    recipe = Recipe(sizes=ChunkSizes(1 << 20, 2 << 20, 4 << 20))
    store, found = LocalStore(tmp_path / "store"), []

    with open_writer(store, recipe, workers=2) as writer:
        (large,) = [one for one in walk(folder) if one.is_file]
        writer.add_extent(large, 1, len(data), lambda _s, content: found.append(content))

    (content,) = found
    assert len(data) > 64 << 20
    assert [chunk.offset for chunk in content.chunks] == [0, *CutFinder(recipe.sizes).feed(data)]
    assert sum(chunk.size for chunk in content.chunks) == content.size == len(data)


@pytest.mark.parametrize(
    ("change", "error"),
    [(Path.unlink, NotFoundError), (lambda path: path.write_bytes(b"!"), ChangedError)],
)
@pytest.mark.parametrize("lanes", [2, 16])
def test_an_error_of_a_process_names_the_file(tmp_path, many, change, error, lanes):
    store = LocalStore(tmp_path / "store")
    store.lanes = lanes

    with pytest.raises(error, match="0899"):
        store_and(store, many, lambda _writer: change(many / "0899"), last="0899")


def test_a_process_that_is_killed_ends_the_publication_with_its_name(tmp_path, many):
    started = time.monotonic()

    def kill(writer):
        for link in writer._crew._links:
            os.kill(link.pid, signal.SIGKILL)

    with pytest.raises(HostError, match=r"worker process .* ended by signal 9"):
        store_and(LocalStore(tmp_path / "store"), many, kill, last="0000")

    assert time.monotonic() - started < 30


def store_and(store, tree, meanwhile, *, last):
    """Store a tree's files; when processes do the work, call `meanwhile`, then store the `last` file."""
    files = {one.path: one for one in walk(tree) if one.is_file}
    late = files.pop(b"/" + os.fsencode(last))
    with open_writer(store, Recipe(), workers=2) as writer:
        for one in files.values():
            writer.add(one, ignore)
        wait_for_processes(writer)
        for _ in range(3):
            writer.add_bytes(os.urandom(2 << 20), ignore)
        meanwhile(writer)
        for _ in range(10):
            writer.add(late, ignore)
            writer.add_bytes(os.urandom(2 << 20), ignore)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_its_publisher(tmp_path, many, number):
    program = """
import sys, time
from pathlib import Path
from cernvm.fs.publish.content import Recipe, open_writer
from cernvm.fs.publish.source import walk
from cernvm.fs.store.local import LocalStore
with open_writer(LocalStore(Path(sys.argv[1])), Recipe(), workers=2) as writer:
    for one in walk(Path(sys.argv[2])):
        if one.is_file:
            writer.add(one, lambda status, content: None)
    while not writer._crew._is_relieved.is_set():
        time.sleep(0.01)
    print(*[link.pid for link in writer._crew._links], flush=True)
    time.sleep(60)
"""
    publisher = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "store"), str(many)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with publisher:
        processes = [int(word) for word in publisher.stdout.readline().split()]
        publisher.send_signal(number)
        publisher.wait(20)

    assert len(processes) == 2
    until = time.monotonic() + 10
    while any(map(is_running, processes)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(is_running, processes))


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False
