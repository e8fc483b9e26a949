"""Catalogs of a publisher who has a lease, and no good intentions."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from cernvm.core.errors import CvmError
from cernvm.fs.format.compress import deflate, inflate
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.gateway.object_pack import SentObject
from cernvm.fs.gateway.protocol import CommitRequest
from unit.fs_survey.conftest import Maker


@pytest.fixture
def forge(site, holder):
    """Commit what `tree` says under the lease on /one; the objects are in the store already."""
    client, _, token = holder
    maker = Maker(site.store, site.repository)

    def commit(tree, nested=(), change=lambda catalog: catalog):
        root, _ = maker.root(tree, nested, change=change)
        return client.commit(token, CommitRequest(site.manifest.root_catalog, root))

    return commit


def refused(site, reason):
    """The commit is refused with a reason, and nothing changed."""
    return pytest.raises(CvmError, match=reason)


def test_changes_outside_the_lease_are_not_merged(site, forge):
    forge({b"/one/a": b"mine", b"/two/b": b"not mine", b"/onemore": b"not mine"})

    assert site.files().keys() == {b"/one", b"/one/a"}


def test_nothing_outside_the_lease_is_removed(site, publishers, grow, holder, forge):
    publishers().publish(grow(b=b"b"), "/two")
    forge({b"/one/a": b"mine"})

    assert site.files()[b"/two/b"] == b"b"


def test_the_repositorys_own_folder_is_not_written(site):
    client, _ = site.key()
    from cernvm.fs.gateway.lease import LeasePath

    given = client.lease(LeasePath("t.cernvm.test"), hostname="", ttl_s=60)
    root, _ = Maker(site.store, site.repository).root({b"/.cvmfs/snapshots/x": b"x", b"/a": b"a"})
    client.commit(given.token, CommitRequest(site.manifest.root_catalog, root))

    assert site.files().keys() == {b"/a"}


def test_a_root_that_was_never_sent_is_refused(site, holder):
    client, _, token = holder
    missing = site.repository.algorithm.digest(b"missing")

    with refused(site, "no object|publish again"):
        client.commit(token, CommitRequest(site.manifest.root_catalog, missing))
    assert site.manifest.revision == 0


@pytest.mark.parametrize(
    "data", [b"junk", deflate(b"junk"), deflate(b"SQLite format 3\0" + bytes(9000))]
)
def test_a_root_that_is_no_catalog_is_refused(site, holder, data):
    client, _, token = holder
    digest = site.repository.algorithm.digest(data)
    site.store.put(object_path(digest, ObjectKind.CATALOG), data)

    with refused(site, "refuses"):
        client.commit(token, CommitRequest(site.manifest.root_catalog, digest))
    assert site.manifest.revision == 0


def test_a_catalog_that_is_a_bomb_is_not_stored(site, holder):
    client, _, token = holder
    bomb = deflate(bytes(100 << 20))
    digest = site.repository.algorithm.digest(bomb)

    with refused(site, "larger than"):
        client.send(token, [(SentObject(digest, ObjectKind.CATALOG, len(bomb)), bomb)])
    assert not site.store.has(object_path(digest, ObjectKind.CATALOG))


def test_an_entry_without_its_object_is_refused(site, forge):
    def forget(catalog):
        for item in catalog.items:
            if item.entry.digest is not None:
                site.store.delete(object_path(item.entry.digest, ObjectKind.PLAIN))
        return catalog

    with refused(site, "was never sent"):
        forge({b"/one/a": b"a"}, change=forget)
    assert site.manifest.revision == 0


def test_a_chunk_without_its_object_is_refused(site, forge):
    def forget(catalog):
        for item in catalog.items:
            for chunk in item.chunks[1:]:
                site.store.delete(object_path(chunk.digest, ObjectKind.PARTIAL))
        return catalog

    with refused(site, "was never sent"):
        forge({b"/one/a": bytes(range(50))}, change=forget)


def test_chunks_with_a_gap_are_refused(site, forge):
    def gap(catalog):
        items = [replace(i, chunks=i.chunks[:1] + i.chunks[2:]) for i in catalog.items]
        return replace(catalog, items=tuple(items))

    with refused(site, "gap|chunks"):
        forge({b"/one/a": bytes(range(50))}, change=gap)


@pytest.mark.parametrize("name", [b"..", b".", b"a/b", b"", b"x" * 256])
def test_a_name_that_is_no_name_is_refused(site, holder, name):
    client, _, token = holder
    maker = Maker(site.store, site.repository)
    root, _ = maker.root({b"/one/a": b"a"})
    path = object_path(root, ObjectKind.CATALOG)
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(inflate(site.store.get(path), limit_bytes=1 << 20))
        database.execute("UPDATE catalog SET name = CAST(? AS TEXT) WHERE name = 'a'", (name,))
        database.commit()
        forged = maker.put(database.serialize(), ObjectKind.CATALOG)

    with refused(site, "refuses"):
        client.commit(token, CommitRequest(site.manifest.root_catalog, forged))
    assert site.manifest.revision == 0


def test_a_nested_catalog_of_another_path_is_refused(site, forge):
    """The lease's folder would show what is nested elsewhere."""
    made = []

    def swap(catalog):
        if catalog.properties.root_prefix == b"/two":
            return catalog
        made.append([n for n in catalog.nested if n.path == b"/two"])
        return replace(
            catalog,
            nested=tuple(
                NestedCatalog(b"/one", made[-1][0].digest, n.size_bytes) if n.path == b"/one" else n
                for n in catalog.nested
            )
            if made[-1]
            else catalog.nested,
        )

    with refused(site, "refuses"):
        forge({b"/one/a": b"a", b"/two/b": b"b"}, nested=(b"/one", b"/two"), change=swap)
    assert site.manifest.revision == 0


def test_a_refused_commit_leaves_the_lease_for_another_try(site, holder, forge):
    client, _, token = holder
    with pytest.raises(CvmError):
        client.commit(
            token,
            CommitRequest(site.manifest.root_catalog, site.repository.algorithm.digest(b"x")),
        )

    assert forge({b"/one/a": b"a"}).revision == 1
    assert site.gateway.book.leases() == []


def test_an_old_root_that_lost_its_objects_does_not_vouch_for_them(site, holder):
    """Only the attributes differ between the two roots; what both name was collected meanwhile."""
    client, _, token = holder
    maker = Maker(site.store, site.repository)
    old, _ = maker.root({b"/one/a": b"a"})

    def touch(catalog):
        items = [
            replace(i, entry=replace(i.entry, mtime_s=99)) if i.path == b"/one/a" else i
            for i in catalog.items
        ]
        return replace(catalog, items=tuple(items))

    new, _ = maker.root({b"/one/a": b"a"}, change=touch)
    site.store.delete(object_path(maker.put(b"a"), ObjectKind.PLAIN))

    with refused(site, "was never sent"):
        client.commit(token, CommitRequest(old, new))
