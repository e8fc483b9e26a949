"""Collections: what is kept reads back whole, and what is not is gone, wherever one is broken off."""

import sqlite3
from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cernvm.core.clock import FakeClock
from cernvm.core.errors import CvmError, DigestMismatchError, HostError, NotFoundError
from cernvm.fs.format.compress import Compression, inflate
from cernvm.fs.format.history import Tag
from cernvm.fs.format.objects import MANIFEST_PATH, ObjectKind, alternative_path, object_path
from cernvm.fs.format.pack import Pack
from cernvm.fs.format.pack_table import PackedStretch
from cernvm.fs.format.profile import Access, Profile, format_profile
from cernvm.fs.format.reflog import ReferenceKind
from cernvm.fs.publish.collecting import collect_garbage
from cernvm.fs.publish.revision import read_manifest, serve_manifest, write_revision
from cernvm.fs.publish.rolling_back import Rollback, roll_back
from cernvm.fs.publish.tags import adding, change_tags, removing
from cernvm.fs.store.memory import MemoryStore
from cernvm.fs.survey.collect import Keeping
from cernvm.fs.survey.marks import DRAWERS, Marks, key_of_path, key_path
from cernvm.fs.survey.opened import Revision
from cernvm.fs.survey.reading import read_object, read_reflog, read_tags

from .conftest import Maker
from .test_difference import MOUNTS, trees

NOTHING_ELSE = Keeping(days=0, leftover_days=0)
REVISIONS = st.lists(
    st.tuples(trees(), MOUNTS, st.sampled_from(["", "", "v1", "v2"])), min_size=1, max_size=6
)


class Failing(MemoryStore):
    """Breaks off at the given deletion or replacement."""

    left = None

    def _count(self):
        if self.left is not None:
            if self.left == 0:
                raise HostError("store", "gone")
            self.left -= 1

    def delete(self, *paths):
        for path in paths:
            self._count()
            super().delete(path)

    def replace(self, path, data):
        self._count()
        super().replace(path, data)


def history(made, revisions, store=None):
    maker = Maker(store or MemoryStore(), made)
    for number, (tree, nested, tag) in enumerate(revisions, 1):
        free = "" if any(t.name == tag for t in maker.tags) else tag
        maker.publish(tree, nested, tag=free, sign=number == len(revisions))
    return maker


def gc(maker, keeping=NOTHING_ELSE, **options):
    clock = FakeClock(maker.now + timedelta(days=5))
    for path in list(maker.store.content):
        maker.store.modified_at[path] = maker.now
    return collect_garbage(maker.repository, maker.store, keeping=keeping, clock=clock, **options)


def read_tree(store, root):
    """{path: content} of a revision, every object read by its digest."""
    revision, found = Revision(store, root), {}

    def read(digest, kind):
        stored = store.get(object_path(digest, kind))
        assert digest.algorithm.digest(stored) == digest
        return inflate(stored, limit_bytes=1 << 20)

    def visit(path):
        for item in revision.listing(path, revision.holder(path)):
            if item.entry.is_directory:
                found[item.path] = None
                visit(item.path)
            elif item.chunks:
                found[item.path] = b"".join(read(c.digest, ObjectKind.PARTIAL) for c in item.chunks)
            else:
                found[item.path] = read(item.entry.digest, ObjectKind.PLAIN)

    found[b""] = None
    visit(b"")
    return found


def kept_of(maker):
    manifest = read_manifest(maker.repository, maker.store)
    return {manifest.root_catalog, *(t.root_catalog for t in read_tags(manifest, maker.store))}


def check_kept(maker, kept):
    for root in kept:
        assert read_tree(maker.store, root) == maker.trees[root]


def needed_paths(maker, kept):
    """The paths of a store to which only these revisions were ever put."""
    clean = Maker(MemoryStore())
    for root in kept:
        data = read_tree(maker.store, root)
        assert data == maker.trees[root]
        revision, waiting = Revision(maker.store, root), [Revision(maker.store, root).root]
        while waiting:
            nested = waiting.pop()
            waiting += revision.catalog(nested).nested.values()
            path = object_path(nested.digest, ObjectKind.CATALOG)
            clean.store.put(path, maker.store.get(path))
        for path, content in data.items():
            clean.item(path, content, data, ())
    return set(clean.store.content)


def root_documents(maker):
    manifest = read_manifest(maker.repository, maker.store)
    return {
        ".cvmfspublished", ".cvmfswhitelist", ".cvmfsreflog",
        object_path(manifest.certificate, ObjectKind.CERTIFICATE),
        object_path(manifest.history, ObjectKind.HISTORY),
    }  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(revisions=REVISIONS)
def test_head_and_tags_stay_whole_and_everything_else_goes(made_repository, revisions):
    maker = history(made_repository, revisions)
    maker.put(b"left by a publisher that died")

    gc(maker)

    kept = kept_of(maker)
    check_kept(maker, kept)
    assert set(maker.store.content) == needed_paths(maker, kept) | root_documents(maker)
    roots = {r.digest for r in read_reflog(maker.store) if r.kind is ReferenceKind.ROOT_CATALOG}
    assert roots == kept
    reflog = maker.store.get(".cvmfsreflog")
    manifest = read_manifest(maker.repository, maker.store)
    assert manifest.reflog == maker.algorithm.digest(reflog)


def test_a_collection_that_was_broken_off_harms_nothing_and_is_completed_by_the_next(
    made_repository,
):
    deep = {b"/a", b"/a/b", b"/a/b/c"}
    revisions = [
        ({b"/a/b/c/f": b"%d" % n, b"/a/b/g": b"long enough for chunks %d" % n}, deep, "")
        for n in range(5)
    ]
    never = Keeping(days=0, leftover_days=1000)  # so that nothing goes as a leftover
    maker = history(made_repository, revisions, Failing())
    kept, before = kept_of(maker), dict(maker.store.content)
    gc(maker, never)
    whole = set(maker.store.content)
    deletions = len(before) - len(whole)
    assert deletions > 20

    steps = deletions + 2  # reflog and manifest come last
    for left in range(steps + 1):
        maker.store.content = dict(before)
        maker.store.left = left
        with pytest.raises(HostError) if left < steps else nullcontext():
            gc(maker, never)
        check_kept(maker, kept)
        maker.store.left = None
        gc(maker, never)
        assert set(maker.store.content) == whole, f"broken off after {left} steps"
        reflog = maker.algorithm.digest(maker.store.get(".cvmfsreflog"))
        assert read_manifest(maker.repository, maker.store).reflog == reflog
    check_kept(maker, kept)


@settings(max_examples=8, deadline=None)
@given(revisions=REVISIONS, count=st.integers(0, 4))
def test_so_many_revisions_before_the_head_are_kept(made_repository, revisions, count):
    maker = history(made_repository, revisions)
    roots = list(maker.trees)

    gc(maker, Keeping(revisions=count, days=0, leftover_days=0))

    kept = kept_of(maker) | set(roots[-1 - count :])
    check_kept(maker, kept)
    assert set(maker.store.content) == needed_paths(maker, kept) | root_documents(maker)


def test_a_revision_on_which_a_collection_began_gets_no_name(made_repository):
    maker = history(
        made_repository,
        [({b"/f": b"%d" % n, b"/g": b"%d" % (9 - n)}, (), "") for n in range(4)],
        Failing(),
    )
    first = next(iter(maker.trees))
    name = adding(maker.store, "first", root=first)
    change_tags(maker.repository, maker.store, name)
    change_tags(maker.repository, maker.store, removing(["first"]))
    file = Revision(maker.store, first).find(b"/f").entry
    while maker.store.has(object_path(file.digest, ObjectKind.PLAIN)):
        maker.store.left = 1
        with pytest.raises(HostError):
            gc(maker)
    maker.store.left = None

    with pytest.raises(NotFoundError, match="no object"):
        change_tags(maker.repository, maker.store, name)
    with pytest.raises(NotFoundError, match="no object"):
        roll_back(maker.repository, maker.store, Rollback(Tag("", first, 0, maker.now, "", 0)))


def test_what_was_served_within_the_last_days_is_kept(made_repository):
    maker = history(made_repository, [({b"/f": b"%d" % n}, (), "") for n in range(8)])
    roots = list(maker.trees)
    clock = FakeClock(maker.now + timedelta(minutes=30))  # the head is half an hour old

    collect_garbage(
        maker.repository, maker.store, keeping=Keeping(days=3 / 24, leftover_days=0), clock=clock
    )

    # served since 2.5 hours before the head came: those of 2 and 1 hours before, and the one that was served then
    check_kept(maker, roots[-4:])
    left = {r.digest for r in read_reflog(maker.store) if r.kind is ReferenceKind.ROOT_CATALOG}
    assert left == set(roots[-4:])


def test_a_dry_run_tells_what_a_collection_then_does(made_repository):
    maker = history(made_repository, [({b"/f": b"%d" % n}, (), "") for n in range(8)])
    maker.put(b"leftover")
    before = dict(maker.store.content)

    told = gc(maker, dry_run=True)
    assert maker.store.content == before
    done = gc(maker)

    told.is_dry = False
    assert told == done
    assert done.gone_revisions == 6
    assert done.leftovers == 1
    assert done.freed_bytes == sum(map(len, before.values())) - sum(
        len(maker.store.content[path]) for path in before.keys() & maker.store.content.keys()
    ) + len(maker.store.content[".cvmfsreflog"]) - len(before[".cvmfsreflog"])


def test_a_collection_of_nothing_signs_nothing(made_repository):
    maker = history(made_repository, [({b"/f": b"1"}, (), "v1")])
    gc(maker)
    before = dict(maker.store.content)

    assert gc(maker).freed_bytes == 0

    assert maker.store.content == before


def test_young_leftovers_may_belong_to_a_publication_that_is_on_its_way(made_repository):
    maker = history(made_repository, [({b"/f": b"1"}, (), "")])
    maker.put(b"on its way")
    clock = FakeClock(maker.store.modified_at[MANIFEST_PATH] + timedelta(hours=23))
    young = {"keeping": Keeping(days=0), "clock": clock}
    late = {"keeping": Keeping(days=0, not_before=maker.now - timedelta(days=400)), "clock": clock}

    assert collect_garbage(maker.repository, maker.store, **young).leftovers == 0
    clock.advance(7200)
    assert collect_garbage(maker.repository, maker.store, **late).leftovers == 0
    assert collect_garbage(maker.repository, maker.store, **young).leftovers == 1


@pytest.mark.parametrize("spoil", ["lost", "flipped"])
def test_nothing_is_deleted_where_a_tagged_revision_is_not_whole(made_repository, spoil):
    maker = history(made_repository, [({b"/d/f": b"%d" % n}, {b"/d"}, f"v{n}") for n in range(4)])
    maker.publish({b"/gone": b"x"})
    maker.publish({}), maker.publish({})
    nested = Revision(maker.store, maker.tags[0].root_catalog)
    path = object_path(nested.catalog(nested.root).nested[b"/d"].digest, ObjectKind.CATALOG)
    if spoil == "lost":
        maker.store.delete(path)
    else:
        data = maker.store.get(path)
        maker.store.put(path, data[:-1] + bytes([data[-1] ^ 1]))
    before = dict(maker.store.content)

    with pytest.raises((NotFoundError, DigestMismatchError)):
        gc(maker)

    assert maker.store.content == before


def test_a_repository_that_keeps_everything_is_collected_by_force_only(made_repository):
    maker = history(made_repository, [({}, (), ""), ({}, (), ""), ({}, (), "")])
    manifest = read_manifest(maker.repository, maker.store)
    serve_manifest(
        maker.repository, maker.store, replace(manifest, garbage_collectable=False),
        reflog=maker.store.get(".cvmfsreflog"), now=maker.now,
    )  # fmt: skip

    with pytest.raises(CvmError, match="keeps all"):
        gc(maker)
    assert gc(maker, force=True).gone_revisions == 1


def with_packs(maker, mark):
    """A spoiler that names a pack of the catalog's and a profile with a pack of its own; and their paths."""

    def pack(data):
        digest = maker.algorithm.digest(data)
        maker.store.put(object_path(digest, ObjectKind.PACK), data)
        return Pack(digest, len(data), 1)

    own, profiled = pack(b"pack of " + mark), pack(b"pack of the profile of " + mark)
    access = Access(b"/f", maker.algorithm.digest(mark), ObjectKind.PLAIN, Compression.ZLIB, 1)
    profile = format_profile(Profile("numpy", 3, (profiled,), (access,)))
    digest = maker.put(profile, ObjectKind.PROFILE)
    kinds = [(own.digest, ObjectKind.PACK), (profiled.digest, ObjectKind.PACK)]
    paths = {object_path(*one) for one in [*kinds, (digest, ObjectKind.PROFILE)]}
    stretches = (PackedStretch(b"/f", b"/f", own),)
    return lambda c: replace(c, packs=stretches, profiles=(("numpy", digest),)), paths


def test_packs_and_profiles_go_with_the_revisions_that_name_them(make):
    maker, paths = make(), []
    for number in range(5):
        change, named = with_packs(maker, b"%d" % number)
        maker.publish({b"/f": b"1"}, change=change, sign=number == 4)
        paths.append(named)

    gc(maker)

    left = {path for path in maker.store.content if path[-1] in "KF"}
    assert left == paths[3] | paths[4]


def test_copies_outside_of_the_data_go_with_their_objects(make):
    maker = make()
    for number in range(4):
        maker.publish({b"/f": b"%d" % number}, sign=number == 3)
        root = maker.manifest.root_catalog
        data = maker.store.get(object_path(root, ObjectKind.CATALOG))
        maker.store.put(alternative_path(root, ObjectKind.CATALOG), data)

    gc(maker)

    left = [path for path in maker.store.content if path.startswith(".cvmfsalt-")]
    assert {alternative_path(root, ObjectKind.CATALOG) for root in kept_of(maker)} == set(left)


def test_revisions_that_the_last_one_shows_are_kept(make):
    maker = make()
    maker.publish({b"/f": b"0"}, sign=False)
    shown = maker.manifest.root_catalog
    for number in range(4):
        maker.publish({b"/f": b"%d" % number}, sign=number == 3)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        root = maker.manifest.root_catalog
        database.deserialize(read_object(maker.store, root, ObjectKind.CATALOG))
        row = ("/.cvmfs/snapshots/first", str(shown), 1)
        database.execute("INSERT INTO bind_mountpoints VALUES (?, ?, ?)", row)
        bound = maker.put(database.serialize(), ObjectKind.CATALOG)
    maker.manifest, _ = write_revision(
        maker.repository, maker.store, replace(maker.manifest, root_catalog=bound),
        tags=maker.tags, previous=maker.manifest, now=maker.now,
    )  # fmt: skip
    maker.trees[bound] = maker.trees[root]

    gc(maker)

    assert read_tree(maker.store, shown) == maker.trees[shown]


def test_files_that_are_no_objects_stay(made_repository):
    maker = history(made_repository, [({}, (), "")])
    maker.store.put("data/00/notes.txt", b"mine")

    assert gc(maker).foreign == 1

    assert maker.store.get("data/00/notes.txt") == b"mine"


@given(st.lists(st.binary(min_size=22, max_size=22)))
def test_marks_give_back_each_record_once(records):
    with Marks() as marks:
        marks.add(records)
        marks.add(records)

        assert list(marks) == sorted(set(records))


def test_marks_stay_small_on_disk_however_often_a_record_is_added(monkeypatch):
    monkeypatch.setattr("cernvm.fs.survey.marks._BUFFER_BYTES", 22)
    monkeypatch.setattr("cernvm.fs.survey.marks._TIDY_BYTES", 1000)
    with Marks() as marks:
        marks._tidy_at = [1000] * DRAWERS
        for number in range(2000):
            marks.add([b"\7" * 21 + bytes([number % 3])])

        assert len(marks.drawer(7)) == 3
        assert marks._written[7] < 1100


@given(st.binary(min_size=20, max_size=20), st.integers(0, 2), st.sampled_from("\0PCHXMKF"))
def test_keys_and_paths_are_two_ways_to_say_the_same(raw, algorithm, letter):
    key = raw + bytes([algorithm, ord(letter)])

    assert key_of_path(key_path(key)) == key


@pytest.mark.parametrize(
    "path",
    ["data/00/notes.txt", "data/00/" + "0" * 37, "data/00/" + "0" * 38 + "Z", "data/0/" + "0" * 39,
     "data/00/" + "A" * 38, "data/00/" + "0" * 38 + "-md5", "data/00/" + "0" * 37 + " "],
)  # fmt: skip
def test_other_paths_have_no_key(path):
    assert key_of_path(path) is None
