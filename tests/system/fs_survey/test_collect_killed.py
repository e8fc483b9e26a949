"""Collections that are killed, or meet a publisher: nothing that is kept is harmed, and the next one completes them."""

import os
import signal
import threading
import time

import pytest

from cernvm.core.errors import TransactionOpenError
from cernvm.fs.publish.collecting import collect_garbage
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.transaction import Transaction, forget_transaction, write_transaction
from cernvm.fs.survey.collect import Keeping
from cernvm.fs.survey.reading import read_tags
from cernvm.fs.survey.references import read_properties

from .conftest import problems

# leftovers stay, so that what a killed collection leaves must be found as what it is
KEEPING = Keeping(days=0, leftover_days=1000)


def collect_in_child(repository, store):
    """The process that collects; it ends with it."""
    child = os.fork()
    if child:
        return child
    try:
        collect_garbage(repository, store, keeping=KEEPING)
    finally:
        os._exit(0)


def objects(store):
    return {path: store.get(path) for path in store.paths("data/")}


def restore(store, before):
    for path, data in before.items():
        if not store.has(path):
            store.put(path, data)


@pytest.mark.timeout(600)
def test_killed_at_any_moment_it_harms_nothing_and_the_next_completes_it(
    repository, store, count, seeded
):
    before = objects(store)
    reflog, served = store.get(".cvmfsreflog"), store.get(".cvmfspublished")
    started = time.monotonic()
    os.waitpid(collect_in_child(repository, store), 0)
    whole_s = time.monotonic() - started
    whole = set(store.paths("data/"))
    assert len(before) > len(whole) + 30
    killed = partly = 0

    for _ in range(count(100)):
        restore(store, before)
        store.replace(".cvmfsreflog", reflog)
        store.replace(".cvmfspublished", served)
        child = collect_in_child(repository, store)
        time.sleep(seeded.uniform(0, whole_s))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        partly += whole < set(store.paths("data/")) < before.keys()

        assert problems(repository, store, with_data=True, all_tags=True) == []
        collect_garbage(repository, store, keeping=KEEPING)
        assert set(store.paths("data/")) == whole
        assert problems(repository, store, all_tags=True, everything=True) == []
    assert killed
    assert partly or count(100) < 50


def test_it_waits_for_a_publisher_only_so_long(repository, store):
    with store.exclusive():
        with pytest.raises(TransactionOpenError):
            collect_garbage(repository, store, keeping=KEEPING)
        holder = threading.Thread(
            target=collect_garbage, args=(repository, store), kwargs={"keeping": KEEPING, "wait_s": 30}
        )  # fmt: skip
        holder.start()
        time.sleep(0.1)
        assert holder.is_alive()
    holder.join(30)
    assert not holder.is_alive()


def test_the_revision_that_an_open_transaction_changes_is_kept(repository, store):
    manifest = read_manifest(repository, store)
    tags = {tag.name: tag for tag in read_tags(manifest, store)}
    collect_garbage(repository, store, keeping=Keeping(revisions=3, days=0))

    older = manifest.root_catalog
    for _ in range(3):
        older = read_properties(store, older).previous
    assert older not in {tag.root_catalog for tag in tags.values()}
    write_transaction(
        repository, Transaction(repository.name, older, older, 5, "", manifest.published_at)
    )
    collect_garbage(repository, store, keeping=KEEPING)
    assert store.has(f"data/{older.hex[:2]}/{older.hex[2:]}C")

    forget_transaction(repository)
    collect_garbage(repository, store, keeping=KEEPING)
    assert not store.has(f"data/{older.hex[:2]}/{older.hex[2:]}C")


@pytest.mark.soak
def test_what_the_publisher_remembers_is_stored_again_after_it_was_collected(
    repository, store, tmp_path
):
    tree, empty = tmp_path / "tree", tmp_path / "empty"
    tree.mkdir()
    empty.mkdir()
    (tree / "comes-and-goes").write_bytes(b"unlike anything else")
    (tree / "large").write_bytes(bytes(range(256)) * (20 << 12))
    time.sleep(2.1)  # younger files are not remembered
    publish_tree(repository, store, tree)
    publish_tree(repository, store, empty)
    publish_tree(repository, store, empty, options=Options(is_thorough=True))
    collect_garbage(repository, store, keeping=Keeping(days=0, leftover_days=0))

    publish_tree(repository, store, tree)

    assert problems(repository, store, with_data=True) == []
