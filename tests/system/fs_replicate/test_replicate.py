"""Replicas of a repository that is served over HTTP: whole, in part, again, and resumed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cernvm.core.errors import NotFoundError, SpaceError, TransactionOpenError
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.whitelisting import renew
from cernvm.fs.replicate.replicating import replicate
from cernvm.fs.replicate.scope import Scope
from cernvm.fs.replicate.state import parse_date, read_state
from cernvm.fs.store.local import LocalStore
from cernvm.fs.store.memory import MemoryStore
from cernvm.fs.survey.reading import read_reflog
from system.replicas import bring, make_upstream, read_replica_back, read_tree_back
from system.sick import SickServer


def test_a_replica_holds_every_object_of_the_revision_it_serves(upstream, copy):
    done, store = bring(upstream.replica(copy))
    manifest, found = read_replica_back(store, upstream.key)
    assert done.is_new
    assert done.revision == manifest.revision == 1
    assert b"/d1/deeper/last" in found
    assert b"/d0/f0" in found
    assert store.get(".cvmfspublished") == upstream.store.get(".cvmfspublished")


def test_packs_come_along_and_their_objects_are_not_asked_for_again(upstream, copy):
    before = upstream.server.requests
    done, store = bring(upstream.replica(copy))
    asked = upstream.server.requests - before
    packs = [path for path in store.paths("data/") if path.endswith("K")]
    assert packs
    assert asked < done.objects / 2


def test_without_packs_every_object_comes_by_itself(upstream, copy):
    _, store = bring(upstream.replica(copy, has_packs=False))
    assert not [path for path in store.paths("data/") if path.endswith("K")]
    root = upstream.revisions[0].root_catalog
    with pytest.raises(NotFoundError):
        read_tree_back(store, root)  # which wants packs


def test_a_chunked_file_comes_with_all_its_chunks(tmp_path, made_keys, copy):
    upstream = make_upstream(tmp_path, made_keys, big_bytes=20 << 20)
    with upstream.server:
        upstream.publish()
        _, store = bring(upstream.replica(copy))
        _, found = read_replica_back(store, upstream.key)
    assert len(found[b"/d1/big"]) > 1


def test_when_nothing_changed_only_root_documents_are_asked_for(upstream, copy):
    bring(upstream.replica(copy))
    before = upstream.server.requests
    done, _ = bring(upstream.replica(copy))
    assert not done.is_new
    assert done.objects == 0
    assert upstream.server.requests - before == 3  # manifest, certificate, whitelist


def test_a_new_revision_brings_only_what_is_new(upstream, copy):
    bring(upstream.replica(copy))
    upstream.change(2)
    before = upstream.server.requests
    done, store = bring(upstream.replica(copy))
    manifest, _ = read_replica_back(store, upstream.key)
    assert done.is_new
    assert manifest.revision == 2
    assert upstream.server.requests - before < 16


def test_tagged_revisions_are_copied_when_they_are_wanted(upstream, copy):
    roots = [upstream.revisions[0].root_catalog] + [
        upstream.change(seed).root_catalog for seed in (2, 3)
    ]
    _, store = bring(upstream.replica(copy, tags=("v0",)))
    read_tree_back(store, roots[0])
    assert not store.has(object_path(roots[1], ObjectKind.CATALOG))
    _, store = bring(upstream.replica(copy, tags=("v*",)))
    for root in roots:
        read_tree_back(store, root)
    listed = {reference.digest for reference in read_reflog(store)}
    assert set(roots) <= listed


def test_all_tagged_revisions_are_copied_unless_told_otherwise(upstream, copy):
    first = upstream.revisions[0].root_catalog
    upstream.change(2)
    plain = replace(upstream.replica(copy), scope=Scope())
    _, store = bring(plain)
    read_tree_back(store, first)
    before = upstream.server.requests
    assert bring(plain)[0].objects == 0
    assert upstream.server.requests - before == 3


def test_earlier_revisions_are_copied_as_far_back_as_they_are_wanted(upstream, copy):
    roots = [upstream.change(seed).root_catalog for seed in (2, 3, 4)]
    _, store = bring(upstream.replica(copy, history=1))
    read_tree_back(store, roots[1])
    assert not store.has(object_path(roots[0], ObjectKind.CATALOG))
    done, store = bring(upstream.replica(copy, history=-1))
    assert done.lost_revisions == 0
    read_tree_back(store, upstream.revisions[0].root_catalog)


def test_revisions_that_the_upstream_collected_are_passed_by(upstream, copy):
    upstream.change(2)
    first = upstream.revisions[0].root_catalog
    upstream.store.delete(object_path(first, ObjectKind.CATALOG))
    done, store = bring(upstream.replica(copy, tags=("*",), history=-1))
    assert done.lost_revisions
    read_replica_back(store, upstream.key)


def test_of_a_partial_replica_only_the_way_and_what_is_below_is_copied(upstream, copy):
    whole, _ = bring(upstream.replica(copy.with_name("whole")))
    done, store = bring(upstream.replica(copy, paths=("/d1/deeper",)))
    _, found = read_replica_back(store, upstream.key, paths=(b"/d1/deeper",))
    assert b"/d1/deeper/last" in found
    assert done.objects < whole.objects / 4


def test_a_partial_replica_becomes_whole_when_it_is_asked_to(upstream, copy):
    bring(upstream.replica(copy, paths=("/d1/deeper",)))
    _, store = bring(upstream.replica(copy))
    read_replica_back(store, upstream.key)
    assert read_state(store).paths == ()


def test_a_catalog_is_believed_only_within_one_life_of_the_machine(upstream, copy):
    """Not every file was durable when the machine went down, so a catalog may be there and its objects not."""
    _, store = bring(upstream.replica(copy))
    lost = sorted(path for path in store.paths("data/") if path[-1].islower() or path[-1].isdigit())
    store.delete(*lost[:5])
    state = json.loads(store.get(".cvmfs_replica.json"))
    store.replace(
        ".cvmfs_replica.json", json.dumps(state | {"working": True, "boot": "before"}).encode()
    )
    bring(upstream.replica(copy))
    read_replica_back(store, upstream.key)


def test_what_is_there_is_not_asked_for_after_an_interruption(upstream, copy):
    """The disk is full in the middle; what came before stays, and is not asked for again."""
    replica = upstream.replica(copy, has_packs=False)
    store = LocalStore(copy)
    puts = 0
    put = store.put

    def fill_after_25(path, data):
        nonlocal puts
        puts += 1
        if puts > 25:
            raise SpaceError("full")
        put(path, data)

    store.put = fill_after_25
    with pytest.raises(SpaceError):
        replicate(replica, store)
    kept = len(list(LocalStore(copy).paths("data/")))
    assert kept >= 25
    before = upstream.server.requests
    done, store = bring(replica)
    total = len([path for path in upstream.store.paths("data/") if path[-1] not in "KF"])
    assert upstream.server.requests - before <= total - kept + 12
    assert done.objects + kept >= len(list(store.paths("data/")))


def test_a_replica_that_lost_or_damaged_objects_is_repaired(upstream, copy, seeded):
    _, store = bring(upstream.replica(copy))
    paths = sorted(store.paths("data/"))
    for path in seeded.sample(paths, len(paths) // 2):
        if seeded.random() < 0.5:
            store.delete(path)
        else:
            (copy / path).write_bytes(b"rotten")
    assert bring(upstream.replica(copy))[0].objects == 0  # it would not know
    done, store = bring(upstream.replica(copy), repairs=True)
    read_replica_back(store, upstream.key)
    assert done.objects
    assert not done.is_new
    assert bring(upstream.replica(copy), repairs=True)[0].objects == 0


def test_two_replications_of_one_store_do_not_mix(upstream, copy):
    store = LocalStore(copy)
    with store.exclusive(), pytest.raises(TransactionOpenError):
        bring(upstream.replica(copy))


def test_documents_that_monitors_read_tell_when_it_was_copied(upstream, copy):
    _, store = bring(upstream.replica(copy))
    assert parse_date(store.get(".cvmfs_last_snapshot").decode()) is not None
    assert parse_date(json.loads(store.get(".cvmfs_status.json"))["last_snapshot"]) is not None
    assert not store.has(".cvmfs_is_snapshotting")


def test_any_store_takes_a_replica(upstream, copy):
    store = MemoryStore()
    replicate(upstream.replica(copy), store)
    read_replica_back(store, upstream.key)


def test_a_whitelist_that_was_renewed_comes_without_a_new_revision(upstream, copy):
    bring(upstream.replica(copy))
    renew(upstream.repository, upstream.store)
    done, store = bring(upstream.replica(copy))
    assert not done.is_new
    assert store.get(".cvmfswhitelist") == upstream.store.get(".cvmfswhitelist")


def test_other_mirrors_are_asked_for_what_the_first_lacks(upstream, copy, tmp_path):
    stale = tmp_path / "stale"
    _, first = bring(replace(upstream.replica(stale), storage=str(stale)))
    lost = [path for path in first.paths("data/") if path[-1] not in "CHX"]
    first.delete(*lost[::3])
    with SickServer(Path(stale)) as mirror:
        replica = replace(upstream.replica(copy), urls=(mirror.url, upstream.server.url))
        _, store = bring(replica)
    read_replica_back(store, upstream.key)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_nobody_foresaw_ends_the_replication_at_once(upstream, copy):
    class Broken(LocalStore):
        def put(self, path, data):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        replicate(upstream.replica(copy), Broken(copy))
