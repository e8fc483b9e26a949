"""What we publish the original mounts, checks, copies and cleans; and both may publish in turn."""

import shutil
import subprocess

import pytest

from cernvm.core.digest import Algorithm
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.survey.reading import read_tags
from system.fs.test_original import listing


@pytest.mark.parametrize("algorithm", list(Algorithm)[:3])
@pytest.mark.parametrize("compression", [Compression.ZLIB, Compression.NONE])
def test_the_original_shows_the_tree_in_every_digest_and_compression(share, algorithm, compression):
    shared = share(algorithm=algorithm, compression=compression)
    shared.publish()

    assert shared.mounted(listing) == listing(shared.tree)
    assert shared.check() == ""


def test_the_originals_check_accepts_every_revision_of_many(share):
    shared = share()
    shared.publish()
    for change in (
        lambda tree: (tree / "many/d1/f1").write_bytes(b"changed"),
        lambda tree: shutil.rmtree(tree / "many/d2"),
        lambda tree: (tree / "many/.cvmfscatalog").touch(),
        lambda tree: (tree / "nested/.cvmfscatalog").unlink(),
        lambda tree: (tree / "nested/inside").rename(tree / "inside"),
        lambda tree: shutil.copytree(tree / "many", tree / "more/many"),
        lambda tree: (tree / "script").unlink(),
    ):
        change(shared.tree)
        shared.publish()
        assert shared.check() == ""
    assert shared.mounted(listing) == listing(shared.tree)


def test_the_original_goes_on_where_we_stopped_and_we_where_it_did(share):
    shared = share()
    shared.publish(at="/ours")
    theirs = shared.theirs()
    added = shared.base / "added"
    added.mkdir()
    (added / "file").write_bytes(b"by the original")

    theirs.publish(lambda union: subprocess.run(["cp", "-a", added, union / "theirs"], check=True))
    shared.publish(shared.tree / "nested", at="/again")
    theirs.keep_reflog_digest()
    theirs.publish(lambda union: (union / "theirs/file").write_bytes(b"changed by the original"))

    def show(point):
        return (
            listing(point / "ours"),
            (point / "theirs/file").read_bytes(),
            (point / "again/inside").read_bytes(),
        )

    assert shared.mounted(show) == (listing(shared.tree), b"changed by the original", b"inside")
    assert shared.check() == ""
    manifest = read_manifest(shared.repository, shared.store)
    assert manifest.revision == 4
    assert len(read_tags(manifest, shared.store)) >= 4


def test_a_replica_by_the_original_is_whole(share, tmp_path):
    shared = share(algorithm=Algorithm.SHAKE128)
    shared.publish()
    (shared.base / "www/.cvmfs_master_replica").touch()
    replica = tmp_path / "replica"
    replica.mkdir()

    shared.theirs().pull(shared.url, replica, own_url=shared.serve(replica))

    # it copies what catalogs of tagged revisions name; packs and profiles only clients of ours ask for
    ours = {path for path in shared.store.paths("data/") if path[-1] not in "KF"}
    copied = {str(path.relative_to(replica)) for path in replica.glob("data/??/*")}
    assert ours - copied == {object_path(shared.first.root_catalog, ObjectKind.CATALOG)}
    assert copied <= ours


def test_the_originals_collection_leaves_what_is_reachable(share):
    shared = share()
    shared.publish(tag="kept")
    kept = listing(shared.tree)
    (shared.tree / "big").write_bytes(b"no more")
    shared.publish(tag="dropped")
    (shared.tree / "big").unlink()
    shared.publish(tag="last")
    (shared.tree / "script").unlink()
    shared.publish(tag="head")
    theirs = shared.theirs()
    before = set(shared.store.paths("data/"))

    theirs.drop_tags(["dropped", *_automatic(shared)])
    theirs.collect("-h", "0")

    gone = before - set(shared.store.paths("data/"))
    assert gone
    assert shared.check() == ""
    assert shared.mounted(listing) == listing(shared.tree)
    shared.publish(tag="after")
    assert shared.check() == ""
    assert {
        tag.name for tag in read_tags(read_manifest(shared.repository, shared.store), shared.store)
    } >= {
        "kept",
        "last",
        "after",
    }
    assert kept


def _automatic(shared):
    tags = read_tags(read_manifest(shared.repository, shared.store), shared.store)
    return [tag.name for tag in tags if tag.name.startswith("generic-")]
