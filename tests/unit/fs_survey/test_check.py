"""A check finds nothing in what a publisher wrote, and something wherever anything is spoiled."""

# ruff: noqa: E501  # a table of spoilers reads best in rows

import random
import stat
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import DeniedError, NotFoundError
from cernvm.fs.format.entry import Entry, EntryFlag, NestedCatalog
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.pack import Pack
from cernvm.fs.format.pack_table import PackedStretch
from cernvm.fs.format.statistics import Statistics
from cernvm.fs.store.memory import MemoryStore
from cernvm.fs.survey.check import CheckOptions, Summary, check
from cernvm.fs.survey.database import Item

from .conftest import Maker

TREE = {
    b"/sub/.cvmfscatalog": b"",
    b"/sub/deep/file": b"in a nested catalog",
    b"/sub/deep/.cvmfscatalog": b"",
    b"/dir/file": b"small",
    b"/large": b"long enough to be stored in chunks",
}
NESTED = {b"/sub", b"/sub/deep"}
DATA = CheckOptions(with_data=True, all_tags=True)


def findings(maker, options=DATA, *, keys=True, summary=None):
    found = check(
        maker.store,
        name="t.cernvm.test",
        master_keys=[maker.repository.keys.public.read_bytes()] if keys else [],
        now=maker.now,
        options=options,
        summary=summary or Summary(),
    )
    return list(found)


def problems(maker, options=DATA):
    return [one for one in findings(maker, options) if not one.is_note]


@pytest.fixture(scope="module")
def good(made_repository):
    """A repository with a tagged revision and a later one; tests spoil copies of it."""
    maker = Maker(MemoryStore(), made_repository)
    maker.publish({b"/old": b"older"}, tag="v1", sign=False)
    maker.publish(TREE, NESTED)
    return maker


@pytest.fixture
def spoiled(good):
    """A copy of it."""
    copy = Maker(MemoryStore(), good.repository, tags=good.tags, manifest=good.manifest)
    copy.now = good.now
    copy.store.content = dict(good.store.content)
    copy.store.modified_at = dict(good.store.modified_at)
    return copy


def test_nothing_is_wrong_with_what_a_publisher_wrote(good):
    summary = Summary()

    assert findings(good, replace(DATA, everything=True), summary=summary) == []

    assert (summary.revisions, summary.catalogs, summary.entries) == (2, 4, 13)
    assert summary.objects == sum(path[-1] not in "HX" for path in good.store.paths("data/"))


def test_what_is_missing_is_named_with_a_path_that_needs_it(spoiled):
    item = spoiled.item(b"/dir/file", b"small", {}, ())
    lost = object_path(item.entry.digest, ObjectKind.PLAIN)
    spoiled.store.delete(lost)

    (found,) = problems(spoiled, CheckOptions())

    assert (found.path, found.place) == (b"/dir/file", lost)


def test_a_lost_chunk_is_named_with_its_file(spoiled):
    item = spoiled.item(b"/sub/deep/file", b"in a nested catalog", {}, ())
    lost = object_path(item.chunks[1].digest, ObjectKind.PARTIAL)
    spoiled.store.delete(lost)

    (found,) = problems(spoiled, CheckOptions())

    assert (found.path, found.place) == (b"/sub/deep/file", lost)


def test_damaged_data_is_found_where_it_is_asked_for(spoiled):
    item = spoiled.item(b"/dir/file", b"small", {}, ())
    path = object_path(item.entry.digest, ObjectKind.PLAIN)
    spoiled.store.content[path] = b"x" * len(spoiled.store.content[path])

    assert problems(spoiled, CheckOptions()) == []
    (found,) = problems(spoiled)

    assert (found.path, found.place) == (b"/dir/file", path)
    assert "damaged" in found.what


def needed(maker):
    """All paths but the tags of before the last revision, which nobody needs."""
    history = object_path(maker.manifest.history, ObjectKind.HISTORY)
    return [p for p in sorted(maker.store.content) if not p.endswith("H") or p == history]


def test_whatever_is_deleted_is_missed(spoiled):
    for path in needed(spoiled):
        data = spoiled.store.content.pop(path)
        assert problems(spoiled, replace(DATA, with_data=False)), path
        spoiled.store.content[path] = data
    assert problems(spoiled) == []


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_flipped_is_noticed(good, seed):
    source = random.Random(seed)
    path = source.choice(needed(good))
    data = good.store.content[path]
    at = source.randrange(len(data))
    good.store.content[path] = (
        data[:at] + bytes([data[at] ^ 1 << source.randrange(8)]) + data[at + 1 :]
    )
    try:
        assert findings(good), path
    finally:
        good.store.content[path] = data


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_an_empty_object_is_as_bad_as_none(good, seed):
    path = random.Random(seed).choice(needed(good))
    data, good.store.content[path] = good.store.content[path], b""
    try:
        assert findings(good, CheckOptions(all_tags=True)), path
    finally:
        good.store.content[path] = data


def with_root_item(change):
    """A spoiler that changes one item of the root catalog."""

    def spoil(catalog):
        if catalog.properties.root_prefix:
            return catalog
        items = [new for item in catalog.items for new in change(item)]
        return replace(catalog, items=tuple(items))

    return spoil


def entry_at(path, **fields):
    return with_root_item(
        lambda i: [replace(i, entry=replace(i.entry, **fields)) if i.path == path else i]
    )


def in_nested(change):
    return lambda c: change(c) if c.properties.root_prefix == b"/sub" else c


def dangling(item):
    return [item] if item.path != b"/dir" else []


def hard_links(count, size):
    def change(item):
        if item.path != b"/dir/file":
            return [item]
        linked = replace(item.entry, hardlink_group=7, link_count=count)
        other = replace(linked, name=b"other", size=size)
        return [Item(item.path, linked), Item(b"/dir/other", other)]

    return with_root_item(change)


def fifo(**fields):
    entry = Entry(
        name=b"fifo", mode=stat.S_IFIFO | 0o644, size=0, mtime_s=0, uid=0, gid=0,
        flags=EntryFlag.FILE | EntryFlag.SPECIAL,
    )  # fmt: skip
    return with_root_item(
        lambda i: [i, Item(b"/fifo", replace(entry, **fields))] if not i.path else [i]
    )


def symlink(size):
    entry = Entry(
        name=b"link", mode=stat.S_IFLNK | 0o777, size=size, mtime_s=0, uid=0, gid=0,
        flags=EntryFlag.FILE | EntryFlag.SYMLINK, symlink=b"target",
    )  # fmt: skip
    return with_root_item(lambda i: [i, Item(b"/link", entry)] if not i.path else [i])


DIGEST = Algorithm.SHA1.digest(b"")
SPOILERS = {
    "counter": (lambda c: replace(c, statistics=Statistics(c.statistics.own + c.statistics.own, c.statistics.subtree)), "counter self_"),
    "subtree": (lambda c: replace(c, statistics=Statistics(c.statistics.own, c.statistics.own)), "counters of what is below"),
    "links of a directory": (entry_at(b"/dir", link_count=9), "9 links"),
    "no links": (entry_at(b"/dir/file", link_count=0), "no links"),
    "links without a group": (entry_at(b"/dir/file", link_count=2), "no group"),
    "a group that is too large": (hard_links(3, 5), "2 members"),
    "a group of different files": (hard_links(2, 6), "different files"),
    "a file without content": (entry_at(b"/dir/file", digest=None), "without content"),
    "a directory with a digest": (entry_at(b"/dir", digest=DIGEST), "what is no file"),
    "a digest of zeros": (entry_at(b"/dir/file", digest=Digest(Algorithm.SHA1, bytes(20))), "zeros"),
    "an external directory": (entry_at(b"/dir", flags=EntryFlag.DIRECTORY | EntryFlag.EXTERNAL), "flags of a file"),
    "chunks with a hole": (with_root_item(lambda i: [replace(i, chunks=i.chunks[1:])]), "do not join"),
    "chunks of no file": (entry_at(b"/large", flags=EntryFlag.FILE, digest=DIGEST), "no chunked file"),
    "a size that is wrong": (entry_at(b"/dir/file", size=6), "5 bytes, not 6"),
    "a size that is too small": (entry_at(b"/dir/file", size=4), "larger than 4"),
    "entries without a directory": (with_root_item(dangling), "belong to no directory"),
    "a name that is not its path's": (entry_at(b"/dir/file", name=b"other"), "disagree"),
    "a nested catalog that nothing mounts": (lambda c: replace(c, nested=(*c.nested, NestedCatalog(b"/dir", DIGEST, 9))), "nothing mounts"),
    "a mountpoint of nothing": (entry_at(b"/dir", flags=EntryFlag.DIRECTORY | EntryFlag.NESTED_MOUNTPOINT), "without a nested"),
    "a nested root in between": (entry_at(b"/dir", flags=EntryFlag.DIRECTORY | EntryFlag.NESTED_ROOT), "not where one begins"),
    "a bind mountpoint of nothing": (entry_at(b"/dir", flags=EntryFlag.DIRECTORY | EntryFlag.BIND_MOUNTPOINT), "bind mountpoint"),
    "a mountpoint unlike its root": (entry_at(b"/sub", uid=77), "differ"),
    "a nested size": (lambda c: replace(c, nested=tuple(replace(n, size_bytes=1) for n in c.nested)), "bytes, not 1"),
    "another prefix": (in_nested(lambda c: replace(c, properties=replace(c.properties, root_prefix=b"/other"))), "it says it is of"),
    "no marker": (in_nested(lambda c: replace(c, items=tuple(i for i in c.items if i.path != b"/sub/.cvmfscatalog"))), "without .cvmfscatalog"),
    "another revision": (lambda c: replace(c, properties=replace(c.properties, revision=9)), "of revision 9"),
    "a pipe with a size": (fifo(size=3), "with a size"),
    "a link's size": (symlink(5), "symbolic link of size 5"),
    "a lost pack": (lambda c: replace(c, packs=(PackedStretch(b"/dir/file", b"/dir/file", Pack(DIGEST, 9, 1)),)), "not in the store"),
    "a pack of no file": (lambda c: replace(c, packs=(PackedStretch(b"/dir/zzz", b"/dir/zzz", Pack(DIGEST, 9, 1)),)), "begins or ends"),
    "a lost profile": (lambda c: c if c.properties.root_prefix else replace(c, profiles=(("numpy", DIGEST),)), "not in the store"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILERS)
def test_each_rule_is_checked(make, name):
    spoil, said = SPOILERS[name]
    maker = make()
    maker.publish(TREE, NESTED, change=spoil)

    assert any(said in one.what for one in problems(maker)), problems(maker)


def test_a_marker_where_no_catalog_begins_is_told(make):
    maker = make()
    maker.publish({b"/dir/.cvmfscatalog": b""})

    (found,) = problems(maker)

    assert found.path == b"/dir/.cvmfscatalog"


def test_only_what_lies_on_the_way_to_a_path_is_checked(make):
    maker = make()
    two = {b"/one/.cvmfscatalog": b"", b"/two/.cvmfscatalog": b"", b"/two/f": b"2"}
    spoil = entry_at(b"", link_count=9)
    maker.publish(
        two, {b"/one", b"/two"},
        change=lambda c: replace(c, statistics=Statistics()) if c.properties.root_prefix == b"/one" else spoil(c),
    )  # fmt: skip

    assert [one.path for one in problems(maker, CheckOptions(at=b"/two/f"))] == [b""]
    assert b"/one" in [one.path for one in problems(maker, CheckOptions(at=b"/one"))]


def test_a_whitelist_that_runs_out_is_told_in_time(spoiled):
    spoiled.now += timedelta(days=25)
    (note,) = findings(spoiled)
    spoiled.now += timedelta(days=10)
    (problem,) = findings(spoiled)

    assert note.is_note
    assert not problem.is_note


def test_without_a_key_nobody_vouches_for_it(good):
    (note,) = findings(good, keys=False)

    assert note.is_note


def test_what_nothing_refers_to_is_counted(spoiled):
    spoiled.put(b"left by a publisher that died")
    summary = Summary()

    (note,) = findings(spoiled, CheckOptions(everything=True), summary=summary)

    assert note.is_note
    assert summary.unneeded_objects == 1


class Unlisted(MemoryStore):
    """A web server: it can only be asked."""

    def listing(self, prefix=""):
        raise DeniedError("a web server")


def test_a_store_that_cannot_be_listed_is_asked_for_each_object(spoiled):
    content = spoiled.store.content
    spoiled.store = Unlisted()
    spoiled.store.content = content
    assert problems(spoiled, CheckOptions()) == []
    item = spoiled.item(b"/dir/file", b"small", {}, ())
    spoiled.store.delete(object_path(item.entry.digest, ObjectKind.PLAIN))

    (found,) = problems(spoiled, CheckOptions())

    assert found.path == b"/dir/file"


def test_an_unknown_tag_is_an_error(good):
    with pytest.raises(NotFoundError, match="v7"):
        findings(good, CheckOptions(tags=("v7",)))
