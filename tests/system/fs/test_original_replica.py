"""Replicas that both programs make of each other's repositories, and read."""

import hashlib
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from cernvm.core.clock import SystemClock
from cernvm.fs.replicate.replica import Replica
from cernvm.fs.replicate.replicating import read_replicated, replicate
from cernvm.fs.replicate.scope import Scope
from cernvm.fs.replicate.state import set_replicable
from cernvm.fs.store.local import LocalStore
from system.fs.conftest import NAME
from system.samples import sample, serve_sample, serve_tree


@pytest.fixture
def undo():
    with ExitStack() as stack:
        yield stack


def copied(upstream_url, key, folder, *, name=NAME, **scope):
    replica = Replica(name, str(folder), (upstream_url,), (key,), Scope(**scope))
    return replicate(replica, LocalStore(folder))


def served(undo, folder, name=NAME):
    server = serve_tree(name, folder)
    undo.callback(server.stop)
    return server.url


def check(original, url, key, folder, tmp_path, *, name=NAME):
    """Have the original check a replica in a folder, all its data included."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    words = []
    reflog = folder / ".cvmfsreflog"
    if reflog.exists():  # a replica's is its own, so the manifest cannot vouch for it
        algorithm = read_replicated(LocalStore(folder), name).root_catalog.algorithm
        (tmp_path / "reflog.chksum").write_text(str(algorithm.digest(reflog.read_bytes())))
        words = ["-R", tmp_path / "reflog.chksum"]
    done = original.swissknife(
        "check", "-r", url, "-t", tmp_path / "tmp", "-k", key, "-N", name, "-c", "-l", "1", *words
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no problems found" in done.stdout + done.stderr


def pull(original, url, key, target, own_url, tmp_path, *, name=NAME):
    for number in range(256):
        (target / f"data/{number:02x}").mkdir(parents=True, exist_ok=True)
    (target / "data/txn").mkdir(exist_ok=True)
    (tmp_path / "pulling").mkdir(exist_ok=True)
    return original.swissknife(
        "pull", "-u", url, "-m", name, "-r", f"local,{target}/data/txn,{target}", "-k", key,
        "-x", tmp_path / "pulling", "-w", own_url, "-n", 4, "-t", 10, "-a", 1,
    )  # fmt: skip


def fingerprint(point):
    """Every path below a mount with its content or target."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(point)):
        for name in [*folders, *files]:
            path = Path(os.fsdecode(os.path.join(folder, name)))
            if path.is_symlink():
                found[path.relative_to(point)] = os.readlink(path)
            elif path.is_file():
                found[path.relative_to(point)] = hashlib.sha1(path.read_bytes()).hexdigest()
    return found


def test_the_originals_client_reads_our_replica(both, original, tmp_path, undo):
    copied(both.url, both.key, tmp_path / "www/copy")
    url = served(undo, tmp_path / "www/copy")
    point = tmp_path / "mnt"
    point.mkdir()
    original.mount(point, url=url, key=both.key, cache=tmp_path / "cache")
    try:
        assert fingerprint(point) == fingerprint(both.theirs)
    finally:
        original.unmount(point)


def test_the_originals_check_finds_nothing_in_our_replica(both, original, tmp_path, undo):
    folder = tmp_path / "www/copy"
    copied(both.url, both.key, folder, tags=("*",))
    check(original, served(undo, folder), both.key, folder, tmp_path)


def test_the_original_replicates_from_our_replica_and_ours_from_its(both, original, tmp_path, undo):
    ours, theirs, again = (tmp_path / name / "copy" for name in ("ours", "theirs", "again"))
    copied(both.url, both.key, ours, tags=("*",))
    set_replicable(LocalStore(ours), is_replicable=True, now=SystemClock().now())
    theirs.mkdir(parents=True)
    their_url = served(undo, theirs)
    done = pull(original, served(undo, ours), both.key, theirs, their_url, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    check(original, their_url, both.key, theirs, tmp_path)
    copied(their_url, both.key, again)
    check(original, served(undo, again), both.key, again, tmp_path)


def test_the_original_is_refused_what_may_not_be_replicated(both, original, tmp_path, undo):
    ours, theirs = tmp_path / "ours/copy", tmp_path / "theirs/copy"
    copied(both.url, both.key, ours)
    theirs.mkdir(parents=True)
    done = pull(original, served(undo, ours), both.key, theirs, served(undo, theirs), tmp_path)
    assert done.returncode != 0
    assert not (theirs / ".cvmfspublished").exists()


@pytest.mark.parametrize("name", ["sample.cernvm.test", "shake.cernvm.test", "vectors.cernvm.test"])
def test_repositories_that_the_original_wrote_are_replicated(name, tmp_path, undo):
    if sample(name) is None:
        pytest.skip(f"{name}: name its folder in CVM_SAMPLE_REPOS")
    upstream = serve_sample(name, tmp_path / "upstream")
    undo.callback(upstream.stop)
    folder = tmp_path / "copy"
    done = copied(upstream.url, upstream.key, folder, name=name, tags=("*",), history=-1)
    assert done.is_new
    theirs = set(LocalStore(upstream.tree).paths("data/"))
    ours = set(LocalStore(folder).paths("data/"))
    assert ours <= theirs
    # what is missing belongs to revisions that no tag names
    assert len(theirs - ours) <= len(theirs) / 20
    manifests = [(tree / ".cvmfspublished").read_bytes() for tree in (folder, upstream.tree)]
    assert manifests[0] == manifests[1]


def test_the_originals_check_finds_nothing_in_our_replica_of_its_repository(
    original, tmp_path, undo
):
    name = "shake.cernvm.test"
    if sample(name) is None:
        pytest.skip(f"{name}: name its folder in CVM_SAMPLE_REPOS")
    upstream = serve_sample(name, tmp_path / "upstream")
    undo.callback(upstream.stop)
    folder = tmp_path / "www/copy"
    copied(upstream.url, upstream.key, folder, name=name, tags=("*",))
    check(original, served(undo, folder, name), upstream.key, folder, tmp_path, name=name)
