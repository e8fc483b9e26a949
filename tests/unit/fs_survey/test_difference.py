import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cernvm.core.errors import NotFoundError
from cernvm.fs.store.memory import MemoryStore
from cernvm.fs.survey.difference import ChangeKind, Totals, diff

from .conftest import Maker

NAMES = st.sampled_from([b"a", b"b", b"c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: b"".join(b"/" + p for p in parts))
CONTENTS = st.one_of(st.none(), st.binary(max_size=25))
MOUNTS = st.sets(PATHS, max_size=3)


def trees():
    return st.dictionaries(PATHS, CONTENTS, max_size=8).map(well_formed)


def well_formed(tree):
    """Whatever lies below a file goes, and every directory is there."""
    kept = {}
    for path, content in sorted(tree.items()):
        parts = path.split(b"/")[1:-1]
        above = [b"".join(b"/" + p for p in parts[: n + 1]) for n in range(len(parts))]
        if all(kept.get(folder) is None for folder in above):
            kept.update(dict.fromkeys(above))
            kept[path] = content
    return kept


@settings(max_examples=60, deadline=None)
@given(trees(), trees(), MOUNTS, MOUNTS, PATHS)
def test_a_difference_is_what_two_trees_do_not_share(old, new, old_mounts, new_mounts, under):
    maker = Maker(MemoryStore())
    before, _ = maker.root(old, old_mounts, revision=1)
    after, _ = maker.root(new, new_mounts, revision=2)

    for top in (b"", under):
        found = {c.path: c for c in diff(before, after, maker.store, top)}

        paths = {p for p in old.keys() | new.keys() if p.startswith(top + b"/") or p == top}
        different = {p for p in paths if old.get(p, 0) != new.get(p, 0)}
        assert found.keys() == different
        for path, change in found.items():
            assert (change.before is not None, change.after is not None) == (
                path in old,
                path in new,
            )


@settings(max_examples=40, deadline=None)
@given(trees(), trees(), MOUNTS, MOUNTS, st.booleans())
def test_a_tree_to_which_the_changes_are_made_in_turn_becomes_the_other(
    old, new, old_mounts, new_mounts, whole
):
    maker = Maker(MemoryStore())
    before, _ = maker.root(old, old_mounts, revision=1)
    after, _ = maker.root(new, new_mounts, revision=2)

    made = dict(old)
    for change in diff(before, after, maker.store, whole=whole):
        if change.after is None or not change.after.entry.is_directory:
            for path in [p for p in made if p.startswith(change.path + b"/")]:
                assert not whole, "what was below a directory comes before it"
                del made[path]
        if change.after is None:
            del made[change.path]
        else:
            made[change.path] = new[change.path]

    assert made == new


def test_catalogs_that_both_revisions_share_are_not_opened(make):
    maker = make()
    shared = {b"/big/%d" % n: b"x" for n in range(20)}
    before, _ = maker.root({**shared, b"/one": b"1"}, {b"/big"}, revision=1)
    nested = set(maker.store.paths())
    after, _ = maker.root({**shared, b"/one": b"2"}, {b"/big"}, revision=1)
    for path in nested:
        if path.endswith("C") and before.hex[2:] not in path:
            maker.store.delete(path)

    (change,) = diff(before, after, maker.store)

    assert (change.path, change.kind) == (b"/one", ChangeKind.MODIFIED)


def test_a_lost_catalog_is_named(make):
    maker = make()
    before, _ = maker.root({b"/one": b"1"})
    after, _ = maker.root({b"/one": b"2"})
    maker.store.delete(f"data/{after.hex[:2]}/{after.hex[2:]}C")

    with pytest.raises(NotFoundError, match=after.hex[2:]):
        list(diff(before, after, maker.store))


def test_totals_count_bytes_of_content_that_came_and_went(make):
    maker = make()
    before, _ = maker.root({b"/same": b"1", b"/less": b"12345", b"/gone": b"123"})
    after, _ = maker.root({b"/same": b"1", b"/less": b"1", b"/new": b"12345678"})
    totals = Totals()

    for change in diff(before, after, maker.store):
        totals.add(change)

    assert totals == Totals(added=1, removed=1, modified=1, added_bytes=9, removed_bytes=8)
