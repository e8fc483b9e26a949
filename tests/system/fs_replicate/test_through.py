"""A pass-through replica: what is asked for is fetched once, verified, and kept; a sick upstream is survived."""

import threading
from contextlib import closing
from dataclasses import replace

import pytest

from cernvm.core.clock import FakeClock
from cernvm.core.errors import (
    CvmError,
    DeniedError,
    NotFoundError,
    RollbackError,
    UnavailableError,
)
from cernvm.fs.format.trust import open_manifest
from cernvm.fs.replicate.through.record import (
    PassThrough,
    forget_pass_through,
    known_pass_throughs,
    write_pass_through,
)
from cernvm.fs.replicate.through.shelf import Shelf
from cernvm.fs.replicate.through.store import open_through
from cernvm.fs.store.parts import read_whole
from system.replicas import NAME, read_tree_back
from system.sick import Fault

MANIFEST = ".cvmfspublished"


class Wall(FakeClock):
    """A clock whose time of day is the real one at first: whitelists run out."""

    def __init__(self):
        from datetime import UTC, datetime

        super().__init__(current=datetime.now(UTC))


@pytest.fixture
def clock():
    return Wall()


@pytest.fixture
def through(upstream, tmp_path, clock):
    def make(**how):
        one = PassThrough(
            NAME, tmp_path / "through", (upstream.server.url,), (upstream.repository.keys.public,), **how
        )  # fmt: skip
        return open_through(one, clock=clock)

    return make


def root_of(store):
    return open_manifest(store.get(MANIFEST), name=NAME).root_catalog


def test_a_whole_revision_passes_through_and_is_kept(upstream, through):
    store = through()
    first = read_tree_back(store, root_of(store))
    asked = upstream.server.requests
    again = read_tree_back(store, root_of(store))

    assert first == again
    assert upstream.server.requests == asked
    assert len(store.shelf) > 20


def test_what_was_kept_outlives_the_process_and_the_upstream(upstream, through):
    store = through()
    root = root_of(store)
    read_tree_back(store, root)
    upstream.server.fall_ill(Fault.DEAD)

    later = through()
    assert root_of(later) == root
    assert read_tree_back(later, root)
    with pytest.raises(CvmError):
        later.get("data/00/" + "0" * 38)


def test_an_object_is_fetched_once_for_all_who_want_it(upstream, through):
    store = through()
    path = f"data/{str(root_of(store))[:2]}/{str(root_of(store))[2:]}C"
    asked = upstream.server.requests
    got = []
    threads = [threading.Thread(target=lambda: got.append(store.get(path))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(got) == 16
    assert len(set(got)) == 1
    assert upstream.server.requests - asked <= 2


def test_a_new_revision_is_seen_after_a_minute(upstream, through, clock):
    store = through()
    old = root_of(store)
    new = upstream.change(2)
    assert root_of(store) == old
    clock.advance(61)

    assert root_of(store) == new.root_catalog
    assert read_tree_back(store, new.root_catalog)


def test_while_the_upstream_is_down_the_last_revision_is_served_for_a_while(
    upstream, through, clock
):
    store = through(stale_s=3600)
    root = root_of(store)
    upstream.server.fall_ill(Fault.ERROR)
    clock.advance(1800)
    assert root_of(store) == root
    clock.advance(3600)

    with pytest.raises(UnavailableError):
        root_of(store)
    upstream.server.heal()
    clock.advance(60)
    assert root_of(store) == root


@pytest.mark.parametrize("fault", [Fault.FLIP, Fault.WRONG, Fault.SHORT])
def test_no_damaged_object_passes(upstream, through, fault):
    store = through()
    root = root_of(store)
    upstream.server.fall_ill(fault)
    with pytest.raises(CvmError):
        store.get(f"data/{str(root)[:2]}/{str(root)[2:]}C")
    assert len(store.shelf) == 0
    upstream.server.heal()

    assert read_tree_back(store, root)


@pytest.mark.parametrize("fault", [Fault.FLIP, Fault.WRONG, Fault.SHORT])
def test_no_damaged_root_document_passes(upstream, through, clock, fault):
    store = through()
    root = root_of(store)
    upstream.change(2)
    upstream.server.fall_ill(fault)
    clock.advance(61)

    assert root_of(store) == root


def test_an_older_revision_is_not_passed_on(upstream, through, clock):
    old = upstream.store.get(MANIFEST)
    new = upstream.change(2)
    store = through()
    assert root_of(store) == new.root_catalog
    upstream.store.replace(MANIFEST, old)
    clock.advance(61)

    assert root_of(store) == new.root_catalog
    assert isinstance(store.roots._error, RollbackError)


def test_without_a_key_that_vouches_nothing_passes(upstream, through, tmp_path):
    from datetime import UTC, datetime

    from cernvm.fs.publish.keys import Keys, create_keys

    other = Keys(tmp_path / "other", NAME)
    create_keys(other, now=datetime.now(UTC))
    one = PassThrough(NAME, tmp_path / "t", (upstream.server.url,), (other.public,))

    with pytest.raises(CvmError):
        open_through(one).get(MANIFEST)


def test_a_kept_object_that_rots_is_fetched_again(upstream, through):
    store = through()
    root = root_of(store)
    read_tree_back(store, root)
    for path in store.paths():
        (store.shelf.folder / path).write_bytes(b"rotten")

    assert read_tree_back(store, root)


def test_what_is_not_there_is_not_found(through):
    store = through()

    for path in ("data/00/" + "0" * 38, ".cvmfsreflog", ".cvmfs_master_replica"):
        with pytest.raises(NotFoundError):
            store.get(path)


def test_nobody_writes_to_it(through):
    store = through()
    with pytest.raises(DeniedError):
        store.put("data/00/" + "0" * 38, b"")
    with pytest.raises(DeniedError):
        store.exclusive()


def test_the_shelf_keeps_what_was_asked_for_last(tmp_path):
    from cernvm.core.digest import Algorithm
    from cernvm.fs.format.objects import ObjectKind, object_path

    objects = {}
    for number in range(40):
        data = b"%d" % number + bytes(1000)
        objects[object_path(Algorithm.SHA1.digest(data), ObjectKind.PLAIN)] = data
    shelf = Shelf(tmp_path / "shelf", limit_bytes=20_000)
    first = next(iter(objects))
    for path, data in objects.items():
        shelf.put(path, data)
        with closing(shelf.open(first)) as parts:
            assert read_whole(parts) == objects[first]
        assert shelf.size_bytes <= 20_000

    on_disk = [file for file in (tmp_path / "shelf/data").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in on_disk) == shelf.size_bytes
    again = Shelf(tmp_path / "shelf", limit_bytes=20_000)
    assert sorted(again.paths()) == sorted(shelf.paths())
    assert first in again


def test_a_record_is_read_as_it_was_written_and_keeps_its_keys(home, tmp_path):
    key = tmp_path / "k"
    key.write_bytes(b"a key")
    one = PassThrough(NAME, tmp_path, ("http://a/cvmfs/x",), (key,), 1 << 30, "DIRECT", 5, (key,))
    known = write_pass_through(home, one)
    key.unlink()

    assert known_pass_throughs(home) == [known]
    assert [kept.read_bytes() for kept in known.public_keys] == [b"a key"]
    assert replace(known, public_keys=(key,), second_keys=(key,)) == one
    forget_pass_through(home, NAME)
    assert list(home.through.iterdir()) == []


def test_a_full_disk_keeps_nothing_and_serves_all(upstream, through, monkeypatch):
    store = through()

    def full(path, data):
        raise OSError(28, "no space left")

    monkeypatch.setattr(store.shelf, "put", full)
    assert read_tree_back(store, root_of(store))
