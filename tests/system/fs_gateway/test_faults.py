"""What goes wrong between publisher and gateway: lost answers, lost leases, dead publishers, dead gateways."""

import os
import signal
import subprocess
import time

import pytest

from cernvm.core.errors import ConflictError, LeaseLostError
from cernvm.core.home import Home
from cernvm.fs.gateway.joining import open_publication
from cernvm.fs.gateway.lease import parse_lease_path
from cernvm.fs.gateway.protocol import CommitRequest
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.survey.reading import read_tags
from conftest import CVM

NAME = "t.cernvm.test"


class Deaf:
    """A gateway's client that hears every answer to a commit the third time only."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        return getattr(self._client, name)

    def commit(self, token, request):
        for _ in range(2):
            self._client.commit(token, request)
        return self._client.commit(token, request)


def test_a_commit_whose_answer_was_lost_is_answered_again(site, publishers, grow):
    repository, store, sink = open_publication(publishers().repository, "/one")
    store._client = Deaf(store._client)
    options = Options(at="/one", tag="v1")
    published = publish_tree(repository, store, grow(a=b"a"), options=options, sink=sink)

    assert published.revision == site.manifest.revision == 1
    assert [tag.name for tag in read_tags(site.manifest, site.store)].count("v1") == 1


class Dying:
    """A lease book that dies right before it writes a commit's answer down."""

    def __init__(self, book):
        self._book = book
        self.is_dying = True

    def __getattr__(self, name):
        return getattr(self._book, name)

    def finish_commit(self, token, answer):
        if self.is_dying:
            self.is_dying = False
            raise OSError("died")
        self._book.finish_commit(token, answer)


def test_a_gateway_that_dies_after_a_commit_makes_it_once(site, publishers, grow):
    """The revision is served, its answer was never written down: the publisher asks again and is told of it."""
    site.gateway.book = Dying(site.gateway.book)
    published = publishers().publish(grow(a=b"a"), "/one", tag="v1")

    assert not site.gateway.book.is_dying
    assert published.revision == site.manifest.revision == 1
    assert [tag.name for tag in read_tags(site.manifest, site.store)].count("v1") == 1


def test_who_lost_the_lease_changes_nothing(site, publishers, grow):
    repository, store, sink = open_publication(publishers().repository, "/one")
    made = sink.begin

    def begin(tag):
        site.gateway.book.cancel_below(parse_lease_path(f"{NAME}/one"))
        return made(tag)

    sink.begin = begin
    with pytest.raises(LeaseLostError):
        publish_tree(repository, store, grow(a=b"a"), options=Options(at="/one"), sink=sink)

    assert site.manifest.revision == 0


def test_a_lease_is_refreshed_while_its_holder_works(site, publishers, grow):
    site.gateway.ttl_s = 1
    repository, store, sink = open_publication(publishers().repository, "/one")
    tokens = []
    made = sink.begin

    def slow(tag):
        tokens.append(store._lease.token)
        time.sleep(1.5)
        return made(tag)

    sink.begin = slow
    published = publish_tree(repository, store, grow(a=b"a"), options=Options(at="/one"), sink=sink)

    assert published.revision == 1


def test_a_second_root_under_one_lease_is_refused(site, publishers, grow):
    repository, store, sink = open_publication(publishers().repository, "/one")
    seen = []
    made = store.commit

    def commit(request):
        seen.append((store._lease.token, request))
        return made(request)

    store.commit = commit
    publish_tree(repository, store, grow(a=b"a"), options=Options(at="/one"), sink=sink)
    token, request = seen[0]

    assert store._client.commit(token, request).revision == 1
    with pytest.raises(ConflictError):
        store._client.commit(token, CommitRequest(request.old_root, request.old_root))


@pytest.fixture
def outside(site, tmp_path):
    """The repository's gateway and a publisher as processes of their own."""
    return Outside(site, tmp_path)


class Outside:
    def __init__(self, site, tmp_path):
        self.site, self.tmp_path = site, tmp_path
        self.port = 0

    def gateway(self):
        process = subprocess.Popen(
            [CVM, "repo", "gateway", "serve", "--port", str(self.port), "--lease-time", "2"],
            env={**os.environ, "CVM_HOME": str(self.site.home.path)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        line = process.stdout.readline()
        assert line, process.stderr.read()
        self.url = line.split()[-1]
        self.port = int(self.url.split(":")[2].split("/")[0])
        return process

    def publisher(self, number):
        """A joined home."""
        self.site.url = self.url
        home = Home(self.tmp_path / f"outside{number}")
        self.site.publisher(home)
        return home

    def publish(self, home, tree, at):
        return subprocess.Popen(
            [CVM, "repo", "publish", NAME, str(tree), "--at", at, "--wait", "30"],
            env={**os.environ, "CVM_HOME": str(home.path)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


def end(process, how=signal.SIGTERM):
    process.send_signal(how)
    process.communicate(timeout=30)


def test_a_killed_publisher_frees_its_path(site, outside, grow):
    gateway = outside.gateway()
    try:
        home = outside.publisher(0)
        tree = grow(**{f"f{number}": os.urandom(1 << 20) for number in range(10)})
        killed = outside.publish(home, tree, "/one")
        while not site.gateway.book.leases():
            time.sleep(0.01)
        end(killed, signal.SIGKILL)

        after = outside.publish(home, tree, "/one")
        assert after.wait(40) == 0, after.stdout.read()
        after.stdout.close()
    finally:
        end(gateway)

    assert len(site.files()) == 11


def test_a_gateway_killed_at_any_moment_leaves_a_whole_revision(site, outside, grow, count, seeded):
    """The publisher holds on; or gives up with a reason, and the next one succeeds."""
    gateway = outside.gateway()
    home = outside.publisher(0)
    expected = site.files()
    try:
        for number in range(count(30)):
            at = f"/v{number}"
            tree = grow(**{f"f{n}": seeded.randbytes(3000) for n in range(40)}, same=b"same")
            publisher = outside.publish(home, tree, at)
            time.sleep(seeded.uniform(0.3, 1.0))
            end(gateway, signal.SIGKILL)
            gateway = outside.gateway()
            output = publisher.communicate(timeout=60)[0]
            if publisher.returncode:
                assert "cvm: " in output
                assert "Traceback" not in output
            assert site.files().items() >= expected.items()
            again = outside.publish(home, tree, at)
            assert again.wait(60) == 0, again.stdout.read()
            again.stdout.close()
            expected = site.files()
            assert expected[f"{at}/same".encode()] == b"same"
            assert sum(path.startswith(at.encode() + b"/") for path in expected) == 41
    finally:
        end(gateway)
