"""Objects of a bucket are read in parts, so that serving a big one needs little memory."""

import tracemalloc
from contextlib import closing

import pytest

from cernvm.core.errors import NotFoundError
from cernvm.fs.publish.web.found import Asked, Shelves
from cernvm.fs.store.opening import open_store
from cernvm.fs.store.parts import MAX_PART_BYTES, PartedStore, read_whole
from system.buckets import BucketServer

NAME = "t.cernvm.test"
OBJECT = "data/d6/747d09595c52d420faa9d5df4a599138b639a8"


@pytest.fixture(scope="module", params=["s3rver", "moto"])
def location(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with closing(BucketServer(request.param, folder)) as server:
        yield server.location(folder / "s3.toml", "here")


@pytest.mark.parametrize("size", [0, 1, MAX_PART_BYTES, MAX_PART_BYTES + 1])
def test_the_parts_are_the_object(location, size):
    store = open_store(location)
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    store.put(OBJECT, data)
    assert isinstance(store, PartedStore)
    with closing(store.open(OBJECT)) as parts:
        assert parts.size_bytes == size
        assert read_whole(parts) == data
        assert parts.read(size, 5) == b""
        assert parts.read(max(0, size - 3), 10) == data[-3:]


def test_what_is_not_there_is_not_found(location):
    with pytest.raises(NotFoundError):
        open_store(location).open("data/00/" + "0" * 38)


def test_a_big_object_is_found_in_bounded_memory(location):
    size = 24 << 20
    open_store(location).put(OBJECT, bytes(size))
    shelves = Shelves(lambda: {NAME: location}, lambda _: None, lambda _: None)
    asked = Asked(f"/cvmfs/{NAME}/{OBJECT}", "", "")
    shelves.find(asked).close()  # the client of the bucket is made, which is big itself
    tracemalloc.start()
    try:
        with closing(shelves.find(asked)) as found:
            at = 0
            while block := found.parts.read(at, 1 << 20):
                at += len(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert at == found.facts.size_bytes == size
    assert peak < 4 * MAX_PART_BYTES
