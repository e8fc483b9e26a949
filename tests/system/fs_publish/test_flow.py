"""What goes through every publication: no change, tags, rehearsals, settings, hooks."""

import dataclasses
import json
import os
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cernvm.core.clock import FakeClock
from cernvm.core.digest import Algorithm
from cernvm.core.errors import DeniedError, ExistsError, InvalidInputError
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish import index, limiting
from cernvm.fs.publish.grafting import graft_of
from cernvm.fs.publish.grafts import Graft, format_graft
from cernvm.fs.publish.hooks import hooks_folder
from cernvm.fs.publish.metainfo import parse_metainfo, publish_metainfo, read_metainfo
from cernvm.fs.publish.publishing import Options, publish_changes, publish_tree
from cernvm.fs.publish.repository import open_storage, read_repository
from cernvm.fs.publish.settings import Settings, with_settings
from cernvm.fs.publish.sink import BranchSink
from cernvm.fs.publish.tags import adding, change_tags
from cernvm.fs.survey.difference import ChangeKind
from cernvm.fs.survey.reading import read_catalog, read_history, read_tags

from .conftest import check_equal, read_back

CHUNKS = {"chunk_least_bytes": 4096, "chunk_mean_bytes": 8192, "chunk_most_bytes": 16384}


@pytest.fixture
def tree(tmp_path):
    """A little of everything, quick to publish."""
    root = tmp_path / "tree"
    (root / "sub" / "deeper").mkdir(parents=True)
    (root / "folder").mkdir()
    (root / "hello.txt").write_bytes(b"hello\n" * 1000)
    (root / "large").write_bytes(os.urandom(100_000))
    (root / "folder" / "link").symlink_to("../hello.txt")
    for folder in (root / "sub", root / "sub" / "deeper"):
        (folder / ".cvmfscatalog").write_bytes(b"")
        (folder / "last").write_bytes(b"last")
    os.setxattr(root / "hello.txt", "user.note", b"\x00binary\xff")
    return root


def with_(repository, **settings):
    return dataclasses.replace(
        repository, settings=dataclasses.replace(repository.settings, **settings)
    )


def entries(repository, store):
    return {path: entry for path, (entry, _) in read_back(repository, store)[0].items()}


def test_a_change_that_changes_nothing_makes_no_revision(repository, store, tree):
    first = publish_tree(repository, store, tree)
    before = {path: store.get(path) for path in store.paths() if "txn" not in path}

    again = publish_tree(repository, store, tree)

    assert (first.is_new, again.is_new) == (True, False)
    assert (again.revision, again.root_catalog) == (first.revision, first.root_catalog)
    assert again.files == first.files
    assert before == {path: store.get(path) for path in store.paths() if "txn" not in path}


def test_a_tag_for_what_stands_makes_no_revision(repository, store, tree):
    first = publish_tree(repository, store, tree)
    tagged = publish_tree(repository, store, tree, options=Options(tag="v1", description="good"))

    assert (tagged.is_new, tagged.revision, tagged.tags) == (False, 1, ("v1",))
    _, manifest = read_back(repository, store)
    assert (manifest.revision, manifest.root_catalog) == (1, first.root_catalog)
    tag = {tag.name: tag for tag in read_tags(manifest, store)}["v1"]
    assert (tag.root_catalog, tag.revision, tag.description) == (first.root_catalog, 1, "good")


def test_the_same_publication_with_its_tag_may_be_repeated(repository, store, tree):
    first = publish_tree(repository, store, tree, options=Options(tag="v1"))
    manifest = read_back(repository, store)[1]

    again = publish_tree(repository, store, tree, options=Options(tag="v1"))

    assert (again.is_new, again.revision, again.tags) == (False, first.revision, ("v1",))
    assert read_back(repository, store)[1] == manifest


def test_the_tag_of_what_stands_names_no_other_revision(repository, store, tree):
    first = publish_tree(repository, store, tree, options=Options(tag="v1"))
    (tree / "more").write_bytes(b"more")

    with pytest.raises(ExistsError):
        publish_tree(repository, store, tree, options=Options(tag="v1"))

    assert read_back(repository, store)[1].root_catalog == first.root_catalog


def test_any_change_goes_through_the_same_flow(repository, store, tree):
    publish_tree(repository, store, tree)

    def change(draft, writer):
        hello = draft.find(b"/hello.txt")
        draft.remove(b"/sub")

        def done(_status, content):
            entry = dataclasses.replace(hello.entry, size=content.size, digest=content.digest)
            draft.put(dataclasses.replace(hello, entry=entry))

        writer.add_bytes(b"other", done)

    assert publish_changes(repository, store, change).revision == 2
    found, _ = read_back(repository, store)
    assert found[b"/hello.txt"][1] == b"other"
    assert not any(path.startswith(b"/sub") for path in found)


def test_an_older_root_can_be_published_again(repository, store, tree):
    first = publish_tree(repository, store, tree)
    (tree / "new").write_bytes(b"new")
    publish_tree(repository, store, tree)

    options = Options(base=first.root_catalog)
    back = publish_changes(repository, store, lambda _draft, _writer: None, options=options)

    assert (back.is_new, back.revision) == (True, 3)
    assert b"/new" not in read_back(repository, store)[0]


def test_a_rehearsal_tells_exactly_what_would_change_and_writes_nothing(repository, store, tree):
    publish_tree(repository, store, tree)
    before = {path: store.get(path) for path in store.paths() if "txn" not in path}
    (tree / "hello.txt").write_bytes(b"other")
    (tree / "new").mkdir()
    (tree / "new" / ".cvmfscatalog").write_bytes(b"")
    (tree / "large").unlink()
    told = []

    published = publish_tree(repository, store, tree, options=Options(rehearse=told.append))

    assert published.revision == 1
    assert published.is_new
    assert {(one.path, one.kind) for one in told} == {
        (b"", ChangeKind.METADATA),
        (b"/hello.txt", ChangeKind.MODIFIED),
        (b"/new", ChangeKind.ADDED),
        (b"/new/.cvmfscatalog", ChangeKind.ADDED),
        (b"/large", ChangeKind.REMOVED),
    }
    assert before == {path: store.get(path) for path in store.paths() if "txn" not in path}


def test_files_and_catalogs_of_other_attributes_by_settings(repository, store, tree):
    plain = with_(repository, xattrs=False, mtime_ns=False, ttl_s=77, gc=False, volatile=True)
    publish_tree(plain, store, tree)

    found = entries(plain, store)
    assert not any(entry.xattrs for entry in found.values())
    assert {entry.mtime_ns for entry in found.values()} == {None}
    _, manifest = read_back(plain, store)
    assert (manifest.ttl_s, manifest.garbage_collectable) == (77, False)
    root = read_catalog(manifest.root_catalog, store)
    assert root.properties.ttl_s == 77

    assert not publish_tree(plain, store, tree).is_new
    assert publish_tree(with_(plain, ttl_s=78), store, tree).is_new
    found = entries(with_(repository, ttl_s=78), store)
    assert found[b"/hello.txt"].mtime_ns is None  # nothing but the time to live changed

    assert publish_tree(repository, store, tree).is_new  # the tree has what was left out
    assert entries(repository, store)[b"/hello.txt"].xattrs
    assert read_back(repository, store)[1].ttl_s == 78  # as it stood


def test_chunked_files_are_also_stored_whole_where_that_is_wanted(repository, store, tree):
    publish_tree(with_(repository, legacy_bulk_hash=True, **CHUNKS), store, tree)

    large = entries(repository, store)[b"/large"]
    assert large.is_chunked
    assert store.has(object_path(large.digest, ObjectKind.PLAIN))


def test_external_files_have_names_and_no_objects(repository, store, tree):
    publish_tree(with_(repository, external=True, **CHUNKS), store, tree)

    _, manifest = read_back_external(repository, store)
    items = {item.path: item for item in read_catalog(manifest.root_catalog, store).items}
    hello, large = items[b"/hello.txt"].entry, items[b"/large"]
    data = (tree / "hello.txt").read_bytes()
    assert hello.is_external
    assert hello.compression is Compression.NONE
    assert hello.digest == Algorithm.SHA1.digest(data)
    assert large.entry.is_external
    assert large.entry.is_chunked
    assert len(large.chunks) > 1
    assert not [path for path in store.paths("data/") if path[-1] not in "CXH"]
    assert not publish_tree(with_(repository, external=True, **CHUNKS), store, tree).is_new


def read_back_external(repository, store):
    from cernvm.fs.publish.revision import read_manifest

    return {}, read_manifest(repository, store)


DIRTAB = b"/sub/*\n! *skipped\n"


def test_a_dirtab_gives_directories_catalogs(repository, store, tree):
    (tree / "sub" / "skipped").mkdir()
    (tree / "sub" / "other").mkdir()
    (tree / "sub" / "deeper" / ".cvmfscatalog").unlink()
    (tree / ".cvmfsdirtab").write_bytes(DIRTAB)
    publish_tree(repository, store, tree)

    marks = {b"/sub/deeper/.cvmfscatalog", b"/sub/other/.cvmfscatalog"}
    found, _ = read_back(repository, store)
    assert marks <= found.keys()
    assert b"/sub/skipped/.cvmfscatalog" not in found
    check_equal(tree, found, ignore=marks)
    assert not publish_tree(repository, store, tree).is_new

    (tree / ".cvmfsdirtab").write_bytes(b"/sub/other\n")
    publish_tree(repository, store, tree)
    check_equal(tree, read_back(repository, store)[0], ignore={b"/sub/other/.cvmfscatalog"})

    (tree / "sub" / "new").mkdir()
    publish_tree(repository, store, tree / "sub" / "new", options=Options(at="/sub/later"))
    assert b"/sub/later/.cvmfscatalog" not in entries(repository, store)


def test_a_directory_that_comes_by_another_way_is_marked_too(repository, store, tree):
    (tree / ".cvmfsdirtab").write_bytes(DIRTAB)
    publish_tree(repository, store, tree)

    publish_changes(repository, store, lambda draft, _: draft.copy(b"/folder", b"/sub/copy"))

    assert b"/sub/copy/.cvmfscatalog" in entries(repository, store)


def test_rules_that_cannot_be_publish_nothing(repository, store, tree):
    (tree / ".cvmfsdirtab").write_bytes(b"relative\n")
    with pytest.raises(InvalidInputError, match="line 1"):
        publish_tree(repository, store, tree)
    assert read_back(repository, store)[1].revision == 0


def test_a_graft_is_published_without_data(repository, store, tree):
    graft = Graft(1 << 40, Algorithm.SHA1.digest(b"elsewhere"), (), Compression.NONE)
    (tree / "sub" / "grafted").write_bytes(b"")
    (tree / "sub" / ".cvmfsgraft-grafted").write_bytes(format_graft(graft))
    publish_tree(repository, store, tree)

    nested = read_back_external(repository, store)[1]
    (sub,) = read_catalog(nested.root_catalog, store).nested
    items = {item.path: item.entry for item in read_catalog(sub.digest, store).items}
    grafted = items[b"/sub/grafted"]
    assert (grafted.size, grafted.digest, grafted.compression) == (
        graft.size,
        graft.digest,
        Compression.NONE,
    )
    assert b"/sub/.cvmfsgraft-grafted" not in items
    assert not publish_tree(repository, store, tree).is_new


@pytest.mark.parametrize("content", [None, b"data"])
def test_a_graft_for_no_empty_file_is_refused(repository, store, tree, content):
    if content is not None:
        (tree / "x").write_bytes(content)
    (tree / ".cvmfsgraft-x").write_bytes(b"size=1\nchecksum=" + b"a" * 40)
    with pytest.raises(InvalidInputError, match="no empty file"):
        publish_tree(repository, store, tree)


def hook(repository, name, text, mode=0o755):
    folder = hooks_folder(repository)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(mode)
    return path


def test_hooks_are_told_before_and_after(repository, store, tree, tmp_path):
    for name in ("before-publish-1", "after-publish"):
        hook(
            repository,
            name,
            f'echo "$CVM_HOOK $CVM_REPOSITORY" >> {tmp_path}/log; cat > {tmp_path}/{name}',
        )
    hook(repository, "before-publish.off", "exit 9", mode=0o644)
    publish_tree(repository, store, tree, options=Options(tag="v1", description="text"))

    log = (tmp_path / "log").read_text().split("\n")
    assert log[:2] == ["before-publish t.cernvm.test", "after-publish t.cernvm.test"]
    before, after = (
        json.loads((tmp_path / name).read_text()) for name in ("before-publish-1", "after-publish")
    )
    assert before["last_revision"] == 0
    assert "revision" not in before
    assert (after["revision"], after["tags"], after["message"]) == (1, ["v1"], "text")


def test_a_failing_hook_stops_a_publication_but_does_not_undo_one(repository, store, tree):
    last = hook(repository, "after-publish", "exit 3")
    assert publish_tree(repository, store, tree).revision == 1

    hook(repository, "before-publish", "echo not on Fridays; exit 3")
    (tree / "new").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="status 3: not on Fridays"):
        publish_tree(repository, store, tree)
    assert read_back(repository, store)[1].revision == 1
    last.unlink()


def test_a_hook_that_hangs_is_ended_with_all_that_it_started(repository, store, tree, tmp_path):
    hook(repository, "before-publish", f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(InvalidInputError, match="longer than 1 s"):
        publish_tree(with_(repository, hook_deadline_s=1.0), store, tree)
    assert state_of(int((tmp_path / "pid").read_text())) in ("", "Z")


def state_of(pid):
    """The kernel's letter for a process, empty for one that is gone; it may take a moment to go."""
    state = ""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except FileNotFoundError:
            return ""
        if state == "Z":
            break
        time.sleep(0.02)
    return state


@pytest.mark.parametrize("when", ["before-publish", "after-publish"])
def test_a_hook_that_others_may_write_is_not_run(repository, store, tree, when):
    path = hook(repository, when, "true")
    path.chmod(path.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(DeniedError, match="others may write"):
        publish_tree(repository, store, tree)
    assert read_back(repository, store)[1].revision == 0


def test_old_automatic_tags_go_where_that_is_wanted(repository, store, tree):
    clock = FakeClock(datetime.now(UTC))
    for number in range(3):
        (tree / "hello.txt").write_bytes(b"%d" % number)
        publish_tree(with_(repository, auto_tag_days=1.5), store, tree, clock=clock)
        clock.advance(86_400)

    names = [tag.name for tag in read_tags(read_back(repository, store)[1], store)]
    assert len([name for name in names if name.startswith("generic-")]) == 2


@pytest.mark.parametrize(
    "text",
    [
        *["none=1", "xattrs=maybe", "xattrs", "ttl_s=0", "fewest_entries=0", "deflate=magic"],
        *["gc_keep_days=-1", "gc_keep_days=1e12", "auto_gc_lapse_days=nan", "auto_tag_days=inf"],
        *["gc_keep_revisions=-1", "hook_deadline_s=0", "hook_deadline_s=inf", "ttl_s=1.5"],
        f"ttl_s={1 << 64}",
    ],
)
def test_settings_that_cannot_be_are_refused(text):
    with pytest.raises(InvalidInputError):
        with_settings(Settings(), [text])


def test_settings_are_read_as_people_write_them():
    chosen = with_settings(Settings(), ["gc_keep_days=0.5", "auto_tag_days=2"])
    assert (chosen.gc_keep_days, chosen.auto_tag_days) == (0.5, 2)
    chosen = with_settings(Settings(xattrs=False), ["chunk_most_bytes=32MiB", "gc=true", "xattrs="])
    assert (chosen.chunk_most_bytes, chosen.gc, chosen.xattrs) == (32 << 20, True, True)


@pytest.mark.parametrize("compression", Compression)
def test_a_graft_names_the_objects_that_publishing_would_store(
    home, repository, store, tree, compression
):
    repository = dataclasses.replace(with_(repository, **CHUNKS), compression=compression)
    made = graft_of(repository, tree / "large", compression)

    publish_tree(repository, store, tree)

    _, manifest = read_back_external(repository, store)
    items = {item.path: item for item in read_catalog(manifest.root_catalog, store).items}
    assert items[b"/large"].chunks == made.chunks != ()
    assert made.size == 100_000
    small = graft_of(repository, tree / "hello.txt", compression)
    assert (small.digest, small.chunks) == (items[b"/hello.txt"].entry.digest, ())


def test_settings_are_kept_for_the_next_publication(cvm, home, tree):
    cvm("repo", "create", "s.cernvm.test")
    cvm("repo", "settings", "s.cernvm.test", "ttl_s=900", "xattrs=false")
    assert json.loads(cvm("repo", "settings", "s.cernvm.test", "--json").stdout)["ttl_s"] == 900
    cvm("repo", "publish", "s.cernvm.test", tree, "--set", "ttl_s=60")
    repository = read_repository(home, "s.cernvm.test")
    store = open_storage(repository)
    assert read_back(repository, store)[1].ttl_s == 60
    assert not entries(repository, store)[b"/hello.txt"].xattrs
    shown = cvm("repo", "publish", "s.cernvm.test", tree, "--dry-run").stdout
    assert "nothing was done" in shown
    cvm("repo", "publish", "s.cernvm.test", tree)
    assert read_back(repository, store)[1].ttl_s == 900


def test_a_repository_says_what_it_is(cvm, home, repository, store, tree):
    publish_tree(repository, store, tree)
    said = {"administrator": "Ada", "email": "ada@cern.test", "custom": {"é": [1]}}

    signed = publish_metainfo(repository, store, said)

    _, manifest = read_back(repository, store)
    assert (manifest.revision, manifest.metainfo) == (1, signed.metainfo)
    assert read_metainfo(manifest, store) == said
    (tree / "new").write_bytes(b"")
    publish_tree(repository, store, tree)
    assert read_metainfo(read_back(repository, store)[1], store) == said
    publish_metainfo(repository, store, None)
    assert read_back(repository, store)[1].metainfo is None


@pytest.mark.parametrize("text", [b"", b"[]", b'{"email": 1}', b"[" * 60_000, b"{" + b" " * 70_000])
def test_metainfo_that_cannot_be_is_refused(text):
    with pytest.raises(InvalidInputError, match="metainfo"):
        parse_metainfo(text)


def test_what_some_readers_do_not_bear_is_refused_where_that_is_wanted(
    repository, store, tree, monkeypatch
):
    monkeypatch.setattr(limiting, "MOST_NESTED_ENTRIES", 3)
    strict = with_(repository, limits=True)
    with pytest.raises(InvalidInputError, match="the catalog of /sub has 4 entries"):
        publish_tree(strict, store, tree)
    assert publish_tree(repository, store, tree).revision == 1

    with (tree / "sparse").open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(InvalidInputError, match="sparse' is larger"):
        publish_tree(strict, store, tree)


def test_a_branch_goes_on_beside_what_is_served(repository, store, tree):
    trunk = publish_tree(repository, store, tree)
    (tree / "new").write_bytes(b"on the branch")

    def beside(tag):
        sink = BranchSink(repository, store, "next")
        return publish_tree(repository, store, tree, options=Options(tag=tag), sink=sink)

    first = beside("next-1")
    (tree / "newer").write_bytes(b"too")
    second = beside("")

    assert (first.is_new, first.revision, second.revision) == (True, 2, 3)
    found, manifest = read_back(repository, store)
    assert (manifest.revision, manifest.root_catalog) == (1, trunk.root_catalog)
    assert b"/new" not in found
    history = read_history(manifest, store)
    assert [(one.name, one.parent, one.initial_revision) for one in history.branches] == [
        ("next", "", 1)
    ]
    tags = {tag.name: tag for tag in history.tags if tag.branch == "next"}
    assert (tags["next-1"].root_catalog, tags["next-1"].revision) == (first.root_catalog, 2)
    assert [tags[name].root_catalog for name in second.tags] == [second.root_catalog]
    reflog = store.get(".cvmfsreflog")
    assert all(str(tag.root_catalog).encode() in reflog for tag in tags.values())

    publish_tree(repository, store, tree)
    assert read_back(repository, store)[1].revision == 2
    assert {tag.name for tag in read_history(read_back(repository, store)[1], store).tags} >= set(
        tags
    )
    with pytest.raises(ExistsError):
        beside("next-1")


def test_files_of_some_names_are_stored_as_they_are(repository, store, tree, monkeypatch):
    monkeypatch.setattr(index, "_SETTLED_NS", 0)  # have it remember new files, too
    (tree / "picture.png").write_bytes(b"packed" * 1000)
    chosen = with_(repository, plain_names="*.png *.g?", **CHUNKS)
    publish_tree(chosen, store, tree)
    found = entries(chosen, store)
    assert found[b"/picture.png"].compression is Compression.NONE
    assert found[b"/hello.txt"].compression is Compression.ZLIB
    assert not publish_tree(chosen, store, tree).is_new

    publish_tree(repository, store, tree)  # the choice is another one now, whatever the index knows
    assert entries(repository, store)[b"/picture.png"].compression is Compression.ZLIB


def test_attributes_that_were_left_out_come_where_they_are_wanted_again(
    repository, store, tree, monkeypatch
):
    monkeypatch.setattr(index, "_SETTLED_NS", 0)  # have it remember new files, too
    publish_tree(with_(repository, xattrs=False), store, tree)
    assert not entries(repository, store)[b"/hello.txt"].xattrs

    publish_tree(repository, store, tree)

    assert entries(repository, store)[b"/hello.txt"].xattrs == {b"user.note": b"\x00binary\xff"}


def test_no_revision_is_older_than_the_one_before(repository, store, tree):
    clock = FakeClock(datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1))
    publish_tree(repository, store, tree, clock=clock)
    set_back = FakeClock(clock.now() - timedelta(minutes=50))

    (tree / "hello.txt").write_bytes(b"other")
    publish_tree(repository, store, tree, clock=set_back)
    _, manifest = read_back(repository, store)
    change_tags(repository, store, adding(store, "v1"), clock=set_back)
    _, tagged = read_back(repository, store)

    # replicas refuse what seems to be older than what they have
    assert (manifest.revision, manifest.published_at) == (2, clock.now())
    assert tagged.published_at == clock.now()
