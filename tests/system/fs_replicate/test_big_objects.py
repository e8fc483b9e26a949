"""Objects that pass through are sent on in parts: a big one needs no more memory than a small one."""

import random
import threading
import tracemalloc
import urllib.request
from contextlib import closing, contextmanager

import pytest

from cernvm.core.digest import Algorithm
from cernvm.core.errors import DigestMismatchError
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.serving import RepositoryServer
from cernvm.fs.replicate.through.record import PassThrough
from cernvm.fs.replicate.through.store import open_through
from cernvm.fs.store.parts import PartedStore, read_whole
from system.replicas import NAME

BIG_BYTES = 24 << 20
MEMORY_BYTES = 12 << 20


@contextmanager
def serving(**how):
    server = RepositoryServer("127.0.0.1", 0, **how)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}/cvmfs/{NAME}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def origin(tmp_path):
    """An upstream with one big object: its URL, the object's path and file."""
    noise = random.Random(5).randbytes(1 << 20) * (BIG_BYTES >> 20)
    path = object_path(Algorithm.SHA1.digest(noise), ObjectKind.PLAIN)
    file = tmp_path / "origin" / path
    file.parent.mkdir(parents=True)
    file.write_bytes(noise)
    del noise
    with serving(storages=lambda: {NAME: str(tmp_path / "origin")}) as url:
        yield url, path, file


@pytest.fixture
def through(origin, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(b"nobody asks for a root document")
    return open_through(PassThrough(NAME, tmp_path / "kept", (origin[0],), (key,)))


@contextmanager
def bounded_memory():
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()


def left_over(through):
    return list((through.shelf.folder / "data/txn").iterdir())


def test_a_big_object_passes_through_in_bounded_memory(origin, through):
    _, path, file = origin
    assert isinstance(through, PartedStore)
    with serving(storages=dict, opened=lambda _: through) as url:
        for _ in ("from upstream", "from the shelf"):
            digest = Algorithm.SHA1.hasher()
            with bounded_memory(), urllib.request.urlopen(f"{url}/{path}", timeout=30) as answer:
                while block := answer.read(1 << 20):
                    digest.update(block)
            assert Algorithm.SHA1.finish(digest) == Algorithm.SHA1.digest(file.read_bytes())
            assert path in through.shelf
    assert left_over(through) == []


def test_all_who_want_a_big_object_at_once_get_it(origin, through):
    _, path, file = origin
    right = []

    def ask():
        with closing(through.open(path)) as parts:
            right.append(read_whole(parts) == file.read_bytes())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert right == [True] * 4


def test_a_big_object_that_is_damaged_leaves_nothing(origin, through):
    _, path, file = origin
    with file.open("r+b") as damaged:
        damaged.seek(BIG_BYTES // 2)
        damaged.write(b"!")
    with pytest.raises(DigestMismatchError):
        through.open(path)
    assert path not in through.shelf
    assert left_over(through) == []
