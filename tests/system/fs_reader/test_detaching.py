"""Repositories of more nested catalogs than a client keeps attached."""

import gc

import pytest

from attack.fs_reader.forge import CatalogMaker, Client, Forge, directory
from cernvm.fs.reader import tree

COUNT = 40


@pytest.fixture
def client():
    forge = Forge()
    nested, entries = [], {}
    for number in range(COUNT):
        path = b"/n%02d" % number
        maker = CatalogMaker(path, {path + b"/f": forge.file(b"f", b"content %d" % number)})
        nested.append((path, forge.catalog(maker)))
        entries[path] = directory(path[1:])
    return Client(forge.publish(CatalogMaker(b"", entries, nested=nested)).documents)


def attached(view):
    return view.repository.revision.tree.attached_count


@pytest.mark.parametrize(("most", "most_bytes"), [(8, 1 << 30), (1000, 1 << 20)])
def test_few_catalogs_stay_attached_and_all_files_stay_readable(
    client, monkeypatch, most, most_bytes
):
    monkeypatch.setattr(tree, "MAX_ATTACHED", most)
    monkeypatch.setattr(tree, "MAX_ATTACHED_BYTES", most_bytes)
    view = client.mount()
    paths = [b"/n%02d/f" % number for number in range(COUNT)]

    inodes = [client.inode(view, path) for path in paths]
    assert 1 < attached(view) <= 8

    for _ in range(2):
        for number, path in enumerate(paths):
            assert client.read(view, path) == b"content %d" % number
    for number, inode in enumerate(inodes):
        assert view.attributes(inode).inode == inode
        assert view.read(inode, 0, 100, client.deadline()) == b"content %d" % number
    assert attached(view) <= 8


def test_a_detached_catalog_may_be_evicted_from_the_cache_and_an_attached_one_not(
    client, monkeypatch
):
    monkeypatch.setattr(tree, "MAX_ATTACHED", 4)
    view = client.mount()
    for number in range(COUNT):
        client.inode(view, b"/n%02d/f" % number)
    gc.collect()

    pinned = [name for name, count in client.cache._pins.items() if count]

    assert len(pinned) == attached(view) == 4


def test_the_catalogs_of_a_revision_that_is_no_longer_shown_are_let_go(client):
    forge = Forge()
    forge.publish(CatalogMaker(b"", {b"/f": forge.file(b"f", b"old")}))
    client = Client(forge.documents)
    view = client.mount()
    inode = client.inode(view, b"/f")
    old = view.repository.revision
    forge.publish(CatalogMaker(b"", {b"/g": forge.file(b"g", b"")}), revision=2)

    assert view.reload(client.deadline())

    assert old.tree.attached_count == 0
    assert view.read(inode, 0, 10, client.deadline()) == b"old"
    assert client.names(view) == {b"g"}
