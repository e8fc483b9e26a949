"""Check and garbage collection, ours beside the original's, on the same repositories."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.collecting import collect_garbage
from cernvm.fs.publish.revision import read_manifest, write_object, write_revision
from cernvm.fs.publish.rolling_back import Rollback, roll_back
from cernvm.fs.publish.tags import adding, change_tags, find_tag, removing
from cernvm.fs.survey.check import CheckOptions, Summary, check
from cernvm.fs.survey.collect import Keeping
from cernvm.fs.survey.reading import read_object, read_tags

NOTHING_ELSE = Keeping(days=0, leftover_days=0)
SPOILT = (
    "UPDATE statistics SET value = value + 1 WHERE counter = 'self_regular'",
    "UPDATE statistics SET value = value + 1 WHERE counter = 'subtree_dir'",
    "UPDATE catalog SET hardlinks = 99 WHERE name = 'many'",
    "UPDATE catalog SET hardlinks = 2 WHERE name = 'empty'",
    "UPDATE catalog SET parent_1 = 7 WHERE name = 'empty'",
    "DELETE FROM chunks WHERE offset = 0",
    "UPDATE chunks SET size = size + 1 WHERE offset = 0",
    "UPDATE catalog SET flags = flags | 2 WHERE name = 'many'",
    "DELETE FROM nested_catalogs",
    "UPDATE nested_catalogs SET size = size + 1",
    "INSERT INTO properties VALUES ('root_prefix', '/elsewhere')",
)

UNMINDED = (  # by the original
    "UPDATE catalog SET size = size + 1 WHERE flags & 8",
    "UPDATE catalog SET uid = uid + 1 WHERE flags & 2",
)


def ours(shared, **options):
    found = check(
        shared.store,
        name=shared.repository.name,
        master_keys=[shared.key.read_bytes()],
        now=datetime.now(UTC),
        options=CheckOptions(**options),
        summary=Summary(),
    )
    return [one for one in found if not one.is_note]


def spoil(shared, statement, manifest):
    """Make a revision whose root catalog a statement changed; says whether it changed anything."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.deserialize(read_object(shared.store, manifest.root_catalog, ObjectKind.CATALOG))
        changed = database.execute(statement).rowcount
        data = database.serialize()
    root = write_object(shared.repository, shared.store, data, ObjectKind.CATALOG)
    spoilt = replace(manifest, root_catalog=root.digest, root_catalog_size_bytes=root.size_bytes)
    serve(shared, spoilt, manifest)
    return changed


def serve(shared, manifest, previous):
    tags = read_tags(previous, shared.store)
    now = datetime.now(UTC)
    write_revision(shared.repository, shared.store, manifest, tags=tags, previous=previous, now=now)


def test_both_checks_find_what_is_wrong_with_a_catalog(share):
    shared = share()
    (shared.tree / "another").mkdir()
    (shared.tree / "another/.cvmfscatalog").touch()
    (shared.tree / "large").write_bytes(bytes(range(256)) * 80_000)
    shared.publish()
    assert (ours(shared), shared.check()) == ([], "")
    manifest = read_manifest(shared.repository, shared.store)

    for statement in (*SPOILT, *UNMINDED):
        assert spoil(shared, statement, manifest), statement
        assert ours(shared), statement
        assert bool(shared.check()) == (statement in SPOILT), statement
    serve(shared, manifest, manifest)
    assert (ours(shared), shared.check()) == ([], "")


def test_both_checks_miss_what_is_lost(share):
    shared = share()
    shared.publish()
    manifest = read_manifest(shared.repository, shared.store)
    theirs = {path for path in shared.store.paths("data/") if path[-1] not in "KF"}
    older = object_path(shared.first.root_catalog, ObjectKind.CATALOG)
    lost = [*sorted(theirs - {older})[::40], object_path(manifest.certificate, ObjectKind.CERTIFICATE),
            object_path(manifest.root_catalog, ObjectKind.CATALOG)]  # fmt: skip

    for path in lost:
        data = shared.store.get(path)
        shared.store.delete(path)
        assert ours(shared), path
        assert shared.check() or path[-1] in "XH", path
        shared.store.put(path, data)
    assert (ours(shared), shared.check()) == ([], "")


def test_what_we_collect_the_original_finds_whole(share):
    shared = share()
    shared.publish(tag="kept")
    for number in range(3):
        (shared.tree / "big").write_bytes(b"revision %d" % number * 9)
        shared.publish()
    theirs = shared.theirs()
    theirs.publish(lambda union: (union / "script").write_text("theirs"))
    theirs.publish(lambda union: (union / "script").write_text("theirs again"))
    _forget(shared)
    before = len(list(shared.store.paths("data/")))

    done = collect_garbage(shared.repository, shared.store, keeping=NOTHING_ELSE)

    assert done.gone_revisions > 2
    assert len(list(shared.store.paths("data/"))) < before
    assert shared.check() == ""
    assert ours(shared, with_data=True, all_tags=True, everything=True) == []
    theirs = shared.theirs()
    theirs.collect("-h", "0")
    assert shared.check() == ""
    theirs.publish(lambda union: (union / "script").write_text("and on"))
    assert shared.check() == ""
    assert shared.mounted(lambda point: (point / "script").read_text()) == "and on"


def test_we_collect_what_the_originals_collection_left(share):
    shared = share()
    shared.publish()
    for number in range(3):
        (shared.tree / "big").write_bytes(b"revision %d" % number * 9)
        shared.publish()
    _forget(shared)
    shared.theirs().collect("-h", "0")
    manifest = read_manifest(shared.repository, shared.store)

    done = collect_garbage(shared.repository, shared.store, keeping=NOTHING_ELSE)

    # it knows nothing of packs, and leaves those of collected revisions
    assert done.leftovers > 0
    assert ours(shared, with_data=True, all_tags=True, everything=True) == []
    assert shared.check() == ""
    assert read_manifest(shared.repository, shared.store).root_catalog == manifest.root_catalog


def test_the_original_reads_our_tags_and_follows_our_rollbacks(share):
    shared = share()
    shared.publish(tag="v1")
    (shared.tree / "script").write_text("later")
    shared.publish(tag="v2")
    manifest = read_manifest(shared.repository, shared.store)
    change_tags(shared.repository, shared.store, adding(shared.store, "named", description="by us"))
    change_tags(shared.repository, shared.store, removing(["v2"]))
    v1 = find_tag(read_tags(manifest, shared.store), "v1")

    rolled = roll_back(shared.repository, shared.store, Rollback(v1, drops_tags=True))

    assert rolled.revision == manifest.revision + 1
    assert shared.check() == ""
    listed = shared.theirs().knife(
        "tag_list", "-w", shared.url, "-t", shared.base / "check", "-p", shared.key,
        "-f", shared.repository.name, "-x",
    )  # fmt: skip
    names = {line.split()[0] for line in listed.splitlines() if line}
    assert {"v1", "trunk", "trunk-previous"} <= names
    assert not names & {"v2", "named"}
    assert shared.mounted(lambda point: (point / "script").read_text()) != "later"


def _forget(shared):
    """Take away the tags that publications were given by themselves, and the original's."""
    tags = read_tags(read_manifest(shared.repository, shared.store), shared.store)
    names = [t.name for t in tags if t.name.startswith(("generic-", "t1"))]
    change_tags(shared.repository, shared.store, removing(names))
