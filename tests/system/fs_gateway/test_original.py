"""The original's publisher works against our gateway: leases, payloads, commits.

It needs no `cvmfs_server`: `cvmfs_swissknife lease` keeps its token in the repository's spool folder, and `sync` and
`ingest` take `-r gw,TMP,URL -P TOKEN -H KEY`. The lease's path is told to `lease` only; the union may show the whole
repository.
"""

import contextlib
import os
import shutil
import subprocess
import tarfile
import time

import pytest

from system.original_server import OriginalServer

NAME = "t.cernvm.test"


class OriginalPublisher(OriginalServer):
    """The original on another machine: it reads over HTTP and publishes through a gateway."""

    def __init__(self, *words, gateway, key, **named):
        super().__init__(*words, **named)
        self.gateway, self.key = gateway, key

    @property
    def spooler(self):
        return f"gw,{self.work}/tmp,{self.gateway}"

    @property
    def token(self):
        return self.spool / "session_token"

    def lease(self, action, path):
        self.knife(
            "lease", "-u", self.gateway, "-a", action, "-k", self.key, "-p", f"{NAME}/{path}"
        )

    def publish(self, change, *, tag=""):
        with self.transaction(change):
            self.sync(tag)

    def sync(self, tag=""):
        manifest = self.work / "manifest"
        self.knife(
            "sync", "-u", self.work / "union", "-s", self.work / "scratch", "-c", self.work / "rdonly",
            "-t", self.work / "tmp", "-b", self.base, "-r", self.spooler, "-w", self.url, "-o", manifest,
            "-e", "sha1", "-Z", "default", "-N", self.name, "-K", self.public_key, "-f", "overlayfs",
            "-p", "-l", 4194304, "-a", 8388608, "-h", 16777216, "-k", "-i", "-H", self.key, "-P", self.token,
            *(("-D", tag, "-J", "described") if tag else ()),
        )  # fmt: skip

    @contextlib.contextmanager
    def transaction(self, change):
        self.base = self.manifest()["C"]
        with super().transaction(change) as union:
            yield union

    def take(self, tar, at):
        with self.transaction(lambda _folder: None):
            self.knife(
                "ingest", "-u", self.work / "union", "-c", self.work / "rdonly", "-t", self.work / "tmp",
                "-b", self.base, "-r", self.spooler, "-w", self.url, "-o", self.work / "manifest",
                "-K", self.public_key, "-N", self.name, "-T", tar, "-B", at, "-H", self.key, "-P", self.token,
            )  # fmt: skip


@pytest.fixture
def original(site, tmp_path):
    folder = os.environ.get("CVMFS_ORIGINAL")
    if not folder:
        pytest.skip("CVMFS_ORIGINAL does not name an original client")
    if os.geteuid() != 0:
        pytest.skip("the original client mounts as root")
    _, key = site.key()
    publisher = OriginalPublisher(
        folder, name=NAME, work=tmp_path / "work", storage=site.repository.storage,
        keys=site.home.keys, url=site.public, gateway=site.url, key=site.gateway.keys.file(key.id),
    )  # fmt: skip
    yield publisher
    publisher.close()


def test_it_publishes_below_its_lease(site, original):
    def change(union):
        (union / "atlas").mkdir()
        (union / "atlas/hello").write_bytes(b"hello")
        (union / "atlas/big").write_bytes(os.urandom(1 << 20) * 30)
        (union / "atlas/nested").mkdir()
        (union / "atlas/nested/.cvmfscatalog").touch()
        (union / "atlas/nested/inside").write_bytes(b"inside")
        (union / "atlas/link").symlink_to("hello")

    original.lease("acquire", "atlas")
    assert [str(lease.path) for lease in site.gateway.book.leases()] == [f"{NAME}/atlas"]
    original.publish(change, tag="v1")

    files = site.files()
    assert files[b"/atlas/hello"] == b"hello"
    assert len(files[b"/atlas/big"]) == 30 << 20
    assert files[b"/atlas/nested/inside"] == b"inside"
    assert files[b"/atlas/link"] == b"hello"
    assert site.manifest.revision == 1
    assert site.gateway.book.leases() == []


def test_a_busy_path_is_told_to_it_as_busy(site, original):
    client, _ = site.key()
    from cernvm.fs.gateway.lease import parse_lease_path

    client.lease(parse_lease_path(f"{NAME}/atlas"), hostname="", ttl_s=60)
    with pytest.raises(SystemExit) as refused:
        original.lease("acquire", "atlas/sub")

    assert "Path busy. Time remaining = 60 s" in str(refused.value)


def test_it_gives_a_lease_up(site, original):
    original.lease("acquire", "")
    assert len(site.gateway.book.leases()) == 1
    original.lease("drop", "")

    assert site.gateway.book.leases() == []
    assert not original.token.exists()


def test_what_others_published_before_its_lease_stays(site, original, publishers, grow):
    """Its transaction began with an older revision; the original's own gateway undoes what came between."""
    publisher = publishers()
    publisher.publish(grow(old=b"old"), "/atlas")

    with original.transaction(lambda union: (union / "atlas/new").write_bytes(b"new")):
        publisher.publish(grow(old=b"changed", more=b"more"), "/atlas")
        publisher.publish(grow(b=b"b"), "/cms")
        original.lease("acquire", "atlas")
        original.sync()

    files = site.files()
    assert files[b"/atlas/new"] == b"new"
    assert (files[b"/atlas/old"], files[b"/atlas/more"], files[b"/cms/b"]) == (
        b"changed",
        b"more",
        b"b",
    )


def test_it_ingests_a_tar(site, original, grow, tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(grow(a=b"a", b=bytes(5 << 20)), arcname="release")
    original.lease("acquire", "sw")
    original.take(tmp_path / "t.tar", "sw")

    files = site.files()
    assert files[b"/sw/release/a"] == b"a"
    assert files[b"/sw/release/b"] == bytes(5 << 20)


def test_both_kinds_of_publisher_take_turns(site, original, publishers, grow):
    publishers().publish(grow(a=b"ours"), "/one")
    original.lease("acquire", "two")

    def change(union):
        (union / "two").mkdir()
        (union / "two/a").write_bytes(b"theirs")

    original.publish(change)
    publishers().publish(grow(a=b"ours again"), "/one")

    assert site.files()[b"/one/a"] == b"ours again"
    assert site.files()[b"/two/a"] == b"theirs"


def test_its_subscriber_is_told_of_a_revision(site, original, publishers, grow, tmp_path):
    """It reads a configuration in /etc, which it is shown in a mount namespace of its own."""
    etc = tmp_path / "etc"
    (etc / f"cvmfs/repositories.d/{NAME}").mkdir(parents=True)
    (etc / f"cvmfs/repositories.d/{NAME}/client.conf").write_text(
        f"CVMFS_SERVER_URL={site.public}\n"
    )
    (etc / "cvmfs/keys").mkdir()
    shutil.copy(site.repository.keys.public, etc / "cvmfs/keys")
    (tmp_path / "work-etc").mkdir()
    overlay = f"lowerdir=/etc,upperdir={etc},workdir={tmp_path / 'work-etc'}"
    subscriber = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", 'mount -t overlay overlay -o "$0" /etc && exec "$@"', overlay,
         original.folder / "bin/cvmfs_swissknife", "notify", "-s", "-u", site.url, "-t", NAME, "-m", "0"],
        env=original.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        time.sleep(1)
        assert subscriber.poll() is None, subscriber.stdout.read()
        publishers().publish(grow(a=b"a"), "/one")
        output, _ = subscriber.communicate(timeout=20)
    finally:
        subscriber.kill()
        subscriber.communicate()

    assert subscriber.returncode == 0
    assert "is now at revision 1" in output
