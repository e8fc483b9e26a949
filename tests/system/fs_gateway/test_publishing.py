"""Several publishers of one repository, each through the gateway, over real sockets."""

import threading

import pytest

from cernvm.core.errors import DeniedError, TransactionOpenError
from cernvm.fs.gateway import service
from cernvm.fs.survey.reading import read_tags


def test_what_is_published_through_the_gateway_is_served(site, publishers, grow):
    published = publishers().publish(grow(hello=b"hello", big=bytes(9 << 20)), "/atlas")

    assert published.revision == site.manifest.revision == 1
    assert published.root_catalog == site.manifest.root_catalog
    files = site.files()
    assert files[b"/atlas/hello"] == b"hello"
    assert files[b"/atlas/big"] == bytes(9 << 20)


def test_publishers_on_sibling_paths_work_at_once(site, publishers, grow):
    trees = {f"/v{number}": grow(name=b"%d" % number, same=b"same") for number in range(4)}
    done = []

    def work(publisher, at, tree):
        done.append(publisher.publish(tree, at).revision)

    threads = [
        threading.Thread(target=work, args=(publishers(), at, tree)) for at, tree in trees.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(done) == [1, 2, 3, 4]
    files = site.files()
    assert all(files[f"{at}/name".encode()] == at[2:].encode() for at in trees)


def test_an_old_base_brings_nothing_back(site, publishers, grow):
    """The publisher's revision is older than the one that it is merged into: what others did since then stays."""
    publisher, other = publishers(), publishers()
    publisher.publish(grow(a=b"a"), "/one")
    other.publish(grow(b=b"b"), "/two")
    publisher.publish(grow(a=b"A", c=b"c"), "/one")
    other.publish(grow(), "/two")

    files = site.files()
    assert (files[b"/one/a"], files[b"/one/c"]) == (b"A", b"c")
    assert b"/two/b" not in files


def test_publishing_the_same_again_makes_no_revision(site, publishers, grow):
    publisher, tree = publishers(), grow(a=b"a")
    first = publisher.publish(tree, "/one")
    again = publisher.publish(tree, "/one")

    assert (first.is_new, again.is_new) == (True, False)
    assert site.manifest.revision == 1


def test_a_tag_is_set_by_the_gateway(site, publishers, grow):
    publishers().publish(grow(a=b"a"), "/one", tag="v1", description="first")

    tags = {tag.name: tag for tag in read_tags(site.manifest, site.store)}
    assert (tags["v1"].revision, tags["v1"].description) == (1, "first")


def test_a_key_for_one_path_publishes_no_other(site, publishers, grow):
    publisher = publishers(b"/atlas")
    publisher.publish(grow(a=b"a"), "/atlas/sw")

    for at in ("/", "/cms"):
        with pytest.raises(DeniedError):
            publisher.publish(grow(a=b"a"), at)
    assert site.gateway.book.leases() == []


def test_a_busy_path_is_refused_or_waited_for(site, publishers, grow):
    client, _ = site.key()
    from cernvm.fs.gateway.lease import parse_lease_path

    given = client.lease(parse_lease_path("t.cernvm.test/one/sub"), hostname="", ttl_s=600)
    with pytest.raises(TransactionOpenError):
        publishers().publish(grow(a=b"a"), "/one")
    timer = threading.Timer(0.5, client.cancel, (given.token,))
    timer.start()
    publishers().publish(grow(a=b"a"), "/one", wait_s=30)
    timer.join()

    assert site.files()[b"/one/a"] == b"a"


def test_a_publication_that_fails_gives_its_lease_up(site, publishers, grow):
    publisher = publishers()
    with pytest.raises(Exception):  # noqa: B017
        publisher.publish(grow() / "missing", "/one")

    assert site.gateway.book.leases() == []
    assert site.manifest.revision == 0


def test_nested_catalogs_links_and_kinds_survive_the_merge(site, publishers, grow, tmp_path):
    import os

    tree = grow(first=b"linked", script=b"#!/bin/sh\n")
    os.link(tree / "first", tree / "second")
    (tree / "nested").mkdir()
    (tree / "nested/.cvmfscatalog").touch()
    (tree / "nested/inside").write_bytes(b"inside")
    (tree / "link").symlink_to("script")
    os.mkfifo(tree / "fifo")
    (tree / "odd \udcff\n").write_bytes(b"odd")
    publisher = publishers()
    publisher.publish(tree, "/one/two")
    (tree / "nested/inside").write_bytes(b"changed")
    (tree / "nested/more").mkdir()
    publisher.publish(tree, "/one/two")

    files = site.files()
    assert files[b"/one/two/nested/inside"] == b"changed"
    assert files[b"/one/two/second"] == b"linked"
    assert files[b"/one/two/link"] == b"script"
    assert files[b"/one/two/odd \xff\n"] == b"odd"
    assert site.manifest.revision == 2


@pytest.fixture
def received(monkeypatch):
    """What the gateway receives, payload by payload."""
    made = []
    receive = service.receive_payload

    def count(*words, **named):
        made.append(receive(*words, **named))
        return made[-1]

    monkeypatch.setattr(service, "receive_payload", count)
    return made


def test_who_may_write_to_the_store_sends_no_objects_through_the_gateway(
    site, publishers, grow, received
):
    publisher = publishers(objects=site.repository.storage)
    publisher.publish(grow(a=b"a", big=bytes(9 << 20)), "/one")

    assert not received
    assert site.files()[b"/one/big"] == bytes(9 << 20)


def test_what_is_there_is_not_sent_again(publishers, grow, received):
    tree = grow(**{f"f{number}": b"%d" % number for number in range(50)})
    publishers().publish(tree, "/one")
    first = sum(one.objects for one in received)
    publishers().publish(tree, "/two")

    assert first > 50
    assert sum(one.objects for one in received) < first + 5
