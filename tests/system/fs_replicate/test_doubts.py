"""Catalogs that are there although what is below them is not, and revisions in which they come again."""

import io
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from cernvm.core.clock import SystemClock
from cernvm.core.errors import NotFoundError
from cernvm.fs.format.history import Tag
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.rolling_back import Rollback, roll_back
from cernvm.fs.replicate.doubts import read_doubts
from cernvm.fs.replicate.exporting import export
from cernvm.fs.replicate.importing import import_stream
from cernvm.fs.replicate.state import collecting
from cernvm.fs.replicate.stream import StreamReader
from cernvm.fs.survey.marks import key_path
from cernvm.fs.survey.reading import read_tags
from cernvm.fs.survey.walking import walk
from system.replicas import bring, read_replica_back


def test_what_was_copied_in_part_is_looked_into_when_it_comes_again(upstream, copy):
    bring(upstream.replica(copy, paths=("/d1/deeper",)))
    (upstream.tree / "d1/f0").unlink()
    upstream.change(2)
    _, store = bring(upstream.replica(copy))
    read_replica_back(store, upstream.key)

    _roll_back(upstream, "v0")
    _, store = bring(upstream.replica(copy))

    _, found = read_replica_back(store, upstream.key)
    assert b"/d1/f0" in found


def test_what_a_collection_left_when_it_was_broken_off_is_looked_into_when_it_comes_again(
    upstream, copy
):
    _, store = bring(upstream.replica(copy))
    (upstream.tree / "d1/f0").unlink()
    upstream.change(2)
    first = upstream.revisions[0].root_catalog
    kept = _contents(upstream.store, upstream.revisions[1].root_catalog)
    bring(upstream.replica(copy))
    with suppress(KeyboardInterrupt), collecting(store, now=SystemClock().now):
        gone = _contents(store, first) - kept
        store.delete(*gone)
        raise KeyboardInterrupt
    upstream.change(3)
    bring(upstream.replica(copy))

    _roll_back(upstream, "v0")
    _, store = bring(upstream.replica(copy))

    _, found = read_replica_back(store, upstream.key)
    assert b"/d1/f0" in found
    assert first in read_doubts(store)


def test_what_was_looked_into_is_doubted_no_more(upstream, copy):
    bring(upstream.replica(copy, paths=("/d1/deeper",)))
    upstream.change(2)
    _, store = bring(upstream.replica(copy))
    before = read_doubts(store)
    _, store = bring(upstream.replica(copy, tags=("v0",)))

    assert upstream.revisions[0].root_catalog in before
    assert read_doubts(store) == set()
    requests = upstream.server.requests
    bring(upstream.replica(copy, tags=("v0",)))
    assert upstream.server.requests - requests == 3


def test_a_difference_to_what_is_here_only_in_part_is_refused(upstream, copy):
    bring(upstream.replica(copy, paths=("/d1/deeper",)))
    first = Tag("v0", upstream.revisions[0].root_catalog, 1, datetime.now(UTC), "", 0)
    upstream.change(2)
    _, store = bring(upstream.replica(copy))
    upstream.change(3)
    stream = io.BytesIO()
    export(upstream.store, read_manifest(upstream.repository, upstream.store), stream, base=first)
    stream.seek(0)

    with pytest.raises(NotFoundError):
        import_stream(upstream.replica(copy), store, StreamReader(stream))


def _roll_back(upstream, name):
    tags = read_tags(read_manifest(upstream.repository, upstream.store), upstream.store)
    (target,) = (tag for tag in tags if tag.name == name)
    roll_back(upstream.repository, upstream.store, Rollback(target))


def _contents(store, root):
    """The paths of all objects of a revision but its catalogs."""
    return {key_path(key) for found in walk(store, [root], set()) for key in found.objects}
