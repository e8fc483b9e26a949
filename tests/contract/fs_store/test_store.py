"""What every object store must do."""

import itertools
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from cernvm.core.errors import InvalidInputError, NotFoundError, TransactionOpenError
from cernvm.fs.store.local import LocalStore
from cernvm.fs.store.memory import MemoryStore
from cernvm.fs.store.opening import open_store
from system.buckets import BucketServer

NUMBERS = itertools.count()
OBJECT = "data/d6/747d09595c52d420faa9d5df4a599138b639a8C"


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Both up before the first test, which is not to be blamed for their processes."""
    made = {kind: BucketServer(kind, tmp_path_factory.mktemp(kind)) for kind in ("s3rver", "moto")}
    yield made
    for server in made.values():
        server.close()


@pytest.fixture(params=["memory", "local", "s3rver", "moto", "fsspec-file", "fsspec-memory"])
def store(request, tmp_path, servers):
    match request.param:
        case "memory":
            return MemoryStore()
        case "local":
            return LocalStore(tmp_path / "store")
        case "s3rver" | "moto":
            opened = open_store(
                servers[request.param].location(
                    tmp_path / "s3.toml", f"repositories/{next(NUMBERS)}"
                )
            )
        case "fsspec-file":
            opened = open_store(f"fsspec+file://{tmp_path}/store")
        case "fsspec-memory":
            opened = open_store(f"fsspec+memory://store-{next(NUMBERS)}")
    opened.settle_s = 0.1
    return opened


def test_what_was_put_is_there(store):
    store.put(OBJECT, b"content")

    assert store.has(OBJECT)
    assert store.get(OBJECT) == b"content"
    assert list(store.paths()) == [OBJECT]


def test_putting_again_changes_nothing(store):
    store.put(OBJECT, b"content")
    store.put(OBJECT, b"content")

    assert list(store.paths("data/d6/")) == [OBJECT]


def test_root_documents_are_replaced(store):
    store.replace(".cvmfspublished", b"old")
    store.replace(".cvmfspublished", b"new")

    assert store.get(".cvmfspublished") == b"new"


def test_what_is_missing_is_named(store):
    assert not store.has(OBJECT)
    with pytest.raises(NotFoundError, match="747d09"):
        store.get(OBJECT)


def test_paths_are_found_by_prefix(store):
    store.put(OBJECT, b"")
    store.replace(".cvmfspublished", b"x")

    assert set(store.paths()) == {OBJECT, ".cvmfspublished"}
    assert list(store.paths("data/00")) == []


def test_a_prefix_may_end_within_a_name(store):
    store.put(OBJECT, b"")
    store.put("data/d7/747d09595c52d420faa9d5df4a599138b639a8", b"")
    store.replace(".cvmfspublished", b"x")

    assert list(store.paths("data/d6")) == [OBJECT]
    assert list(store.paths("data/d6/747d")) == [OBJECT]
    assert list(store.paths(".cvmfsp")) == [".cvmfspublished"]
    assert list(store.paths(OBJECT)) == [OBJECT]


def test_a_listing_tells_size_and_time(store):
    store.put(OBJECT, b"content")

    [(path, status)] = store.listing("data/")

    assert (path, status.size_bytes) == (OBJECT, 7)
    assert abs(datetime.now(UTC) - status.modified_at) < timedelta(minutes=1)
    assert store.status(OBJECT) == status
    assert store.status("data/00/" + "0" * 38) is None


def test_what_is_deleted_is_gone_and_may_be_deleted_again(store):
    other = "data/d7/747d09595c52d420faa9d5df4a599138b639a8"
    store.put(OBJECT, b"")
    store.put(other, b"")

    store.delete(OBJECT, other)
    store.delete(OBJECT)
    store.delete()

    assert list(store.paths()) == []
    assert not store.has(OBJECT)


@pytest.mark.parametrize("prefix", ["/etc/", "../", "data/../../", "data/txn/"])
def test_a_prefix_leads_nowhere_else(store, prefix):
    with store.exclusive():
        assert list(store.paths(prefix)) == []


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "data/../../x",
        "data//x",
        "..",
        "data/txn/x",
        "a\0b",
        "a\n",
        "data/./x",
    ],
)
def test_paths_that_leave_the_store_are_refused(store, path):
    readers = (store.get, store.has, store.status, store.delete)
    for use in (*readers, lambda p: store.put(p, b""), lambda p: store.replace(p, b"")):
        with pytest.raises(InvalidInputError):
            use(path)


def test_one_publisher_at_a_time(store):
    with store.exclusive(), pytest.raises(TransactionOpenError), store.exclusive():
        pass
    with store.exclusive():
        store.put(OBJECT, b"x")
    assert store.has(OBJECT)


def test_a_patient_publisher_gets_the_store_when_it_is_free(store):
    with store.exclusive(), pytest.raises(TransactionOpenError), store.exclusive(wait_s=0.1):
        pass
    is_held = threading.Event()

    def hold():
        with store.exclusive():
            is_held.set()
            time.sleep(0.2)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(5)
    with store.exclusive(wait_s=10):
        pass
    holder.join(5)


def test_a_failed_publisher_lets_go(store):
    with pytest.raises(KeyError), store.exclusive():
        raise KeyError

    with store.exclusive():
        pass


def test_another_process_holds_a_local_store(tmp_path):
    store = LocalStore(tmp_path / "store")
    with store.exclusive():
        code = (
            "import sys; from pathlib import Path; from cernvm.fs.store.local import LocalStore\n"
            "with LocalStore(Path(sys.argv[1])).exclusive(): pass"
        )
        child = subprocess.run(
            [sys.executable, "-c", code, str(store.folder)],
            check=False,
            capture_output=True,
            text=True,
            timeout=20,
        )

    assert "TransactionOpenError" in child.stderr


def test_a_location_opens_the_same_store_again(tmp_path):
    store = LocalStore(tmp_path / "store")
    store.put(OBJECT, b"content")

    assert open_store(store.location).get(OBJECT) == b"content"


@pytest.mark.parametrize("location", ["", "relative/folder", "gopher://x", "memory:"])
def test_a_location_that_names_no_store_is_refused(location):
    with pytest.raises(InvalidInputError):
        open_store(location)
