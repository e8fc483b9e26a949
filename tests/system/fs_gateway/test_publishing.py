"""Several publishers of one repository, each through the gateway, over real sockets."""

import base64
import http.client
import json
import os
import threading
from urllib.parse import urlsplit

import pytest

from cernvm.core.errors import ConflictError, DeniedError, TransactionOpenError
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.trust import open_manifest
from cernvm.fs.gateway import service
from cernvm.fs.gateway.joining import open_publication
from cernvm.fs.gateway.lease import parse_lease_path
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.survey.reading import read_tags

NAME = "t.cernvm.test"


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
    tree = grow(a=b"a")
    publishers().publish(tree, "/one", tag="v1", description="first")
    repeated = publishers().publish(tree, "/one", tag="v1")

    assert (repeated.is_new, repeated.tags) == (False, ("v1",))
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


def test_who_listens_is_told_of_each_revision(site, publishers, grow):
    parts = urlsplit(site.url)
    body = json.dumps({"version": 1, "repository": NAME}).encode()
    line = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    line.request("GET", parts.path + "/notifications/subscribe", body=body)
    events = line.getresponse()

    def told():
        event = json.loads(events.readline().removeprefix(b"data: "))
        assert events.readline() == b"\n"
        return open_manifest(base64.b64decode(event["manifest"]), name=event["repository"])

    assert told().revision == 0
    publishers().publish(grow(a=b"a"), "/one")
    assert told().root_catalog == site.manifest.root_catalog
    publish_tree(site.repository, site.store, grow(b=b"b"), options=Options(at="/beside"))
    announced = json.dumps({"repository": NAME, "manifest": "not believed"}).encode()
    beside = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    beside.request("POST", parts.path + "/notifications/publish", body=announced)
    assert json.loads(beside.getresponse().read())["status"] == "ok"
    beside.close()
    assert told().revision == 2
    events.close()
    line.close()


def test_garbage_is_collected_through_the_gateway_while_nobody_publishes(site, publishers, grow):
    publisher = publishers()
    for content in (b"1", b"2"):
        publisher.publish(grow(a=content), "/one")
    client, _ = site.key(admin=True)
    given = client.lease(parse_lease_path(f"{NAME}/two"), hostname="", ttl_s=60)
    body = json.dumps({"repo": NAME, "num_revisions": 0, "days": 0}).encode()
    with pytest.raises(ConflictError):
        client._ask("POST", "/gc", body, [body])
    client.cancel(given.token)

    assert "revisions gone" in client._ask("POST", "/gc", body, [body])["output"]
    assert site.files()[b"/one/a"] == b"2"


def test_what_was_put_can_be_read_at_once(site, publishers):
    """Until it is sent it is read from memory, then as the web server shows it."""
    _, store, _ = open_publication(publishers().repository, "/one")
    paths = {}
    with store.exclusive():
        for number in range(4500):
            data = b"%d" % number
            path = object_path(site.repository.algorithm.digest(data), ObjectKind.PLAIN)
            store.put(path, data)
            paths[path] = data
        for path in list(paths)[::500]:
            assert store.get(path) == paths[path]
