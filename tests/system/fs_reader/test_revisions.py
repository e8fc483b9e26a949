"""One revision replaced by the next under a reader's feet."""

import pytest

from attack.fs_reader.forge import HOST, Client, honest
from cernvm.core.errors import NotFoundError
from cernvm.fs.vfs import ROOT_INODE
from cernvm.net import Fault

from .conftest import revision


@pytest.fixture
def mounted():
    client = Client(revision(1, {b"/same": b"same", b"/changes": b"old", b"/goes": b"gone soon"}))
    return client, client.mount()


def publish(client, *args, **more):
    client.exchange.documents[HOST] |= revision(*args, **more)


def test_a_new_revision_is_shown_after_a_reload(mounted):
    client, view = mounted
    publish(client, 2, {b"/same": b"same", b"/changes": b"new", b"/comes": b"hello"})

    assert view.reload(client.deadline())
    assert view.revision == 2
    assert client.names(view) == {b"same", b"changes", b"comes"}
    assert client.read(view, b"/changes") == b"new"
    with pytest.raises(NotFoundError):
        client.inode(view, b"/goes")


def test_without_a_new_revision_nothing_changes(mounted):
    client, view = mounted

    assert not view.reload(client.deadline())
    assert view.reload_due_s == pytest.approx(60)


def test_an_open_file_keeps_its_content(mounted):
    client, view = mounted
    open_file = client.inode(view, b"/changes")
    gone_file = client.inode(view, b"/goes")
    publish(client, 2, {b"/changes": b"new"})
    view.reload(client.deadline())

    assert view.read(open_file, 0, 100, client.deadline()) == b"old"
    assert view.attributes(open_file).size_bytes == 3
    assert view.read(gone_file, 0, 100, client.deadline()) == b"gone soon"


def test_changed_content_has_another_inode_and_the_same_content_the_same(mounted):
    client, view = mounted
    before = {name: client.inode(view, name) for name in (b"/same", b"/changes")}
    publish(client, 2, {b"/same": b"same", b"/changes": b"new"})
    view.reload(client.deadline())

    assert client.inode(view, b"/same") == before[b"/same"]
    assert client.inode(view, b"/changes") != before[b"/changes"]


def test_inodes_are_the_same_after_a_restart(mounted):
    client, view = mounted

    assert client.inode(client.mount(), b"/same") == client.inode(view, b"/same")


def test_an_inode_takes_over_new_attributes_of_the_same_content(mounted):
    client, view = mounted
    inode = client.inode(view, b"/same")
    documents = revision(2, {b"/same": b"same"})
    client.exchange.documents[HOST] |= documents
    view.reload(client.deadline())

    assert view.attributes(inode).mode == 0o100644
    assert view.attributes(ROOT_INODE).mode == 0o40755


def test_the_time_to_reload_comes_from_the_root_catalog(mounted):
    client, view = mounted
    publish(client, 2, {}, ttl_s=7)
    view.reload(client.deadline())

    assert view.reload_due_s == 7
    client.clock.advance(8)
    assert view.reload_due_s == 0


def test_a_failed_reload_keeps_the_revision_and_is_tried_again_soon(mounted):
    client, view = mounted
    client.exchange.faults[HOST, ""] = Fault.REFUSED
    client.clock.advance(100)

    assert not view.reload(client.deadline())
    assert view.revision == 1
    assert 0 < view.reload_due_s <= 60.001
    assert "refused" in view.why(b"/same").revision_error


def test_a_revision_whose_root_catalog_is_missing_is_not_shown(mounted):
    client, view = mounted
    documents = revision(2, {b"/new": b"new"})
    client.exchange.documents[HOST] |= {k: v for k, v in documents.items() if not k.endswith("C")}

    assert not view.reload(client.deadline())
    assert view.revision == 1
    assert client.read(view, b"/same") == b"same"
    client.exchange.documents[HOST] |= documents
    assert view.reload(client.deadline())


def test_a_listing_read_in_parts_survives_a_new_revision():
    names = {b"/f%d" % n: b"x" for n in range(100)}
    client = Client(revision(1, names))
    view = client.mount()
    first = view.listing(ROOT_INODE, 0, client.deadline())[:40]
    publish(client, 2, dict.fromkeys(names, b"y") | {b"/g%d" % n: b"z" for n in range(50)})
    view.reload(client.deadline())

    rest = view.listing(ROOT_INODE, first[-1].offset, client.deadline())

    seen = [listed.name for listed in (*first, *rest)]
    assert len(seen) == len(set(seen))
    assert {b".", b".."} | {path[1:] for path in names} <= set(seen)


def test_forgotten_inodes_are_unknown(mounted):
    client, view = mounted
    inode = client.inode(view, b"/same")
    client.inode(view, b"/same")
    view.forget(inode, 1)
    assert view.attributes(inode)

    view.forget(inode, 1)

    with pytest.raises(NotFoundError):
        view.attributes(inode)
    view.forget(ROOT_INODE, 5)
    assert view.attributes(ROOT_INODE)


def test_nothing_waits_when_asked_not_to(mounted):
    client, view = mounted
    inode = client.inode(view, b"/same")
    asked = len(client.exchange.requests)

    assert view.try_read(inode, 0, 10) is None
    assert len(client.exchange.requests) == asked
    view.read(inode, 0, 10, client.deadline())
    assert view.try_read(inode, 0, 10) == b"same"
    assert view.try_lookup(ROOT_INODE, b"same").inode == inode
    assert len(view.try_listing(ROOT_INODE, 0)) == 5


def test_a_nested_catalog_is_not_waited_for():
    client = Client(honest().documents)
    view = client.mount()
    nested = client.inode(view, b"/nested")

    assert view.try_lookup(nested, b"deep") is None
    assert view.try_listing(nested, 0) is None
    assert [state.is_cached for state in view.why(b"/nested/deep").catalogs] == [True, False]
    client.inode(view, b"/nested/deep")
    assert view.try_lookup(nested, b"deep") is not None
    assert [state.is_cached for state in view.why(b"/nested/deep").catalogs] == [True, True]


def test_a_shorter_longest_time_holds_at_once(mounted):
    client, view = mounted
    publish(client, 2, {}, ttl_s=4000)
    view.reload(client.deadline())
    assert view.reload_due_s == 4000

    client.repository.max_ttl_s = 300

    assert view.reload_due_s == 300
    client.clock.advance(300)
    view.reload(client.deadline())
    assert view.reload_due_s == 300
