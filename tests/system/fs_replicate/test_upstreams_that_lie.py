"""Upstreams that die, lie or go back: a clear error, and the last good revision is served."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cernvm.core.clock import FakeClock
from cernvm.core.errors import (
    CvmError,
    DigestMismatchError,
    ExpiredError,
    FormatError,
    HostError,
    RollbackError,
    SignatureError,
)
from cernvm.fs.format.objects import MANIFEST_PATH, ObjectKind, object_path
from cernvm.fs.publish.keys import Keys, create_keys
from cernvm.fs.publish.revision import read_manifest, sign_with
from cernvm.fs.replicate.replicating import replicate
from cernvm.fs.store.local import LocalStore
from system.replicas import bring, make_upstream, open_upstream, read_replica_back
from system.sick import Fault


@pytest.fixture
def behind(upstream, copy):
    """A replica of the first revision, while the upstream has the second."""
    bring(upstream.replica(copy))
    upstream.change(2)
    return upstream.replica(copy)


def check_first_is_served(replica, upstream):
    manifest, _ = read_replica_back(LocalStore(copy_of(replica)), upstream.key)
    assert manifest.revision == 1


def copy_of(replica):
    return Path(replica.storage)


def newest(upstream):
    """The file of the last revision's root catalog."""
    root = upstream.revisions[-1].root_catalog
    return upstream.store.folder / object_path(root, ObjectKind.CATALOG)


@pytest.mark.parametrize("fault", [Fault.FLIP, Fault.SHORT, Fault.WRONG, Fault.GONE, Fault.ERROR])
def test_an_upstream_that_is_sick_ends_it_with_the_reason(fault, behind, upstream):
    upstream.server.fall_ill(fault)
    with pytest.raises(CvmError):
        bring(behind)
    check_first_is_served(behind, upstream)


def test_a_dead_upstream_is_named(behind, upstream):
    upstream.server.fall_ill(Fault.DEAD)
    with pytest.raises(HostError, match=upstream.server.url):
        bring(behind)
    check_first_is_served(behind, upstream)


def test_a_sick_upstream_that_is_well_at_times_is_copied_in_the_end(behind, upstream):
    upstream.server.fall_ill(Fault.FLIP, Fault.SHORT, Fault.CUT, Fault.RESET, share=0.2)
    for _ in range(20):
        try:
            done, store = bring(behind)
        except CvmError:
            check_first_is_served(behind, upstream)
        else:
            break
    assert done.revision == 2
    read_replica_back(store, upstream.key)


def test_an_object_with_other_bytes_is_not_stored(behind, upstream):
    place = newest(upstream)
    good = place.read_bytes()
    place.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(DigestMismatchError):
        bring(behind)
    check_first_is_served(behind, upstream)
    assert not LocalStore(copy_of(behind)).has(
        object_path(upstream.revisions[-1].root_catalog, ObjectKind.CATALOG)
    )


def test_one_object_that_is_nowhere_is_named(upstream, copy):
    replica = upstream.replica(copy, has_packs=False)
    victim = next(p for p in upstream.store.folder.glob("data/*/*") if p.name[-1] not in "CHXKF")
    victim.unlink()
    with pytest.raises(HostError, match=victim.name):
        bring(replica)
    assert not LocalStore(copy).has(MANIFEST_PATH)


def test_a_catalog_is_not_there_before_all_below_it_is(upstream, copy):
    victim = next(p for p in upstream.store.folder.glob("data/*/*") if p.name[-1] not in "CHXKF")
    victim.unlink()
    with pytest.raises(HostError):
        bring(upstream.replica(copy, has_packs=False))
    root = upstream.revisions[0].root_catalog
    assert not LocalStore(copy).has(object_path(root, ObjectKind.CATALOG))


def test_an_upstream_that_goes_back_is_refused(upstream, copy):
    old = (upstream.store.folder / MANIFEST_PATH).read_bytes()
    upstream.change(2)
    bring(upstream.replica(copy))
    (upstream.store.folder / MANIFEST_PATH).write_bytes(old)
    with pytest.raises(RollbackError):
        bring(upstream.replica(copy))
    assert read_replica_back(LocalStore(copy), upstream.key)[0].revision == 2


def test_an_older_number_of_the_same_tree_is_refused(upstream, copy):
    """Its tags and its blacklisting are older, too."""
    old = read_manifest(upstream.repository, upstream.store)
    bring(upstream.replica(copy))
    again = sign_with(
        upstream.repository,
        upstream.store,
        replace(old, revision=old.revision + 1),
        signing=upstream.repository.keys.signing,
        certificate=upstream.repository.keys.certificate,
    )
    first = upstream.store.get(MANIFEST_PATH)
    upstream.store.replace(MANIFEST_PATH, again)
    bring(upstream.replica(copy))
    upstream.store.replace(MANIFEST_PATH, first)

    with pytest.raises(RollbackError):
        bring(upstream.replica(copy))


def test_of_several_mirrors_those_that_are_behind_are_passed_by(upstream, copy, tmp_path):
    shutil.copytree(tmp_path / "base", tmp_path / "old", symlinks=True)
    with open_upstream(tmp_path / "old").server as old:
        upstream.change(2)
        bring(upstream.replica(copy))
        both = replace(upstream.replica(copy), urls=(old.url, upstream.server.url))
        done, _ = bring(both)
    assert done.revision == 2


def test_another_publishers_manifest_is_refused(behind, upstream, tmp_path):
    keys = tmp_path / "others"
    create_keys(Keys(keys, behind.name), now=datetime.now(UTC))
    other = make_upstream(tmp_path / "foreign", keys)
    with other.server:
        for seed in (2, 3, 4):
            other.change(seed)
        with pytest.raises(SignatureError):
            bring(replace(behind, urls=(other.server.url,)))
    check_first_is_served(behind, upstream)


def test_an_expired_whitelist_is_refused(behind, upstream):
    late = FakeClock(datetime.now(UTC) + timedelta(days=4000))
    with pytest.raises(ExpiredError):
        replicate(behind, LocalStore(copy_of(behind)), clock=late)
    check_first_is_served(behind, upstream)


def test_a_manifest_that_is_none_is_refused(behind, upstream):
    (upstream.store.folder / MANIFEST_PATH).write_bytes(b"<html>please log in</html>")
    with pytest.raises(FormatError):
        bring(behind)
    check_first_is_served(behind, upstream)


def test_what_is_published_meanwhile_is_copied_in_its_place(upstream, copy):
    """The upstream publishes and collects while it is copied: what is missing then is missed by nobody."""
    replica = upstream.replica(copy, has_packs=False)
    offered = []

    class Changing(LocalStore):
        def replace(self, path, data):
            if not offered:
                offered.append(path)
                last = newest(upstream)
                upstream.change(2)
                last.unlink()
            super().replace(path, data)

    done = replicate(replica, Changing(copy))
    assert done.revision == 2
    read_replica_back(LocalStore(copy), upstream.key, with_packs=False)
