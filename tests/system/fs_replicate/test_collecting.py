"""Garbage of replicas: what the upstream withdrew goes, and what is wanted again comes back whole."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.replicate.replicating import read_replicated
from cernvm.fs.replicate.state import collecting
from cernvm.fs.survey.collect import Keeping, collect
from system.replicas import NAME, bring, read_replica_back, read_tree_back


def collected(store, *, days=0.0, on_delete=None):
    now = datetime.now(UTC) + timedelta(seconds=1)
    keeping = Keeping(days=days, leftover_days=0.0)
    with store.exclusive(), collecting(store, now=lambda: now):
        return collect(
            store,
            read_replicated(store, NAME),
            keeping=keeping,
            now=now,
            sign=None,
            on_delete=on_delete,
        )


@pytest.fixture
def grown(upstream, copy):
    """A replica that followed its upstream for three revisions, of which it was told to keep the last."""
    for seed in (2, 3):
        bring(upstream.replica(copy))
        upstream.change(seed)
    _, store = bring(upstream.replica(copy))
    return store


def test_tags_that_were_not_copied_do_not_matter(upstream, copy):
    upstream.change(2)
    _, store = bring(upstream.replica(copy))
    assert collected(store).objects == 0
    read_replica_back(store, upstream.key)


def test_tagged_revisions_that_are_here_stay(upstream, grown):
    collected(grown)
    read_tree_back(grown, upstream.revisions[0].root_catalog)
    read_replica_back(grown, upstream.key)


def test_a_collection_that_broke_off_is_made_good_by_the_next_replication(upstream, grown, copy):
    """Else a catalog whose objects are gone would pass for whole."""
    first = upstream.revisions[0].root_catalog
    names = [path for path in grown.paths("data/") if path[-1] not in "CHXKF"]

    class BrokenOffError(Exception):
        pass

    with (
        suppress(BrokenOffError),
        grown.exclusive(),
        collecting(grown, now=lambda: datetime.now(UTC)),
    ):
        grown.delete(*names[::2])
        raise BrokenOffError
    assert grown.has(object_path(first, ObjectKind.CATALOG))
    _, store = bring(upstream.replica(copy, tags=("v*",)))
    read_replica_back(store, upstream.key)
    read_tree_back(store, first)


def test_after_a_collection_the_next_revision_is_copied_as_ever(upstream, grown, copy):
    collected(grown)
    upstream.change(9)
    done, store = bring(upstream.replica(copy))
    assert done.objects < 12
    read_replica_back(store, upstream.key)
