"""Three revisions meet: below the lease the publisher's changes count, elsewhere the last revision."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cernvm.core.errors import ConflictError
from cernvm.fs.format.entry import EntryFlag
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.gateway.lease import is_below
from cernvm.fs.gateway.merging import Merge
from unit.fs_publish_draft.conftest import Press, file_item, folder_item, link_item, press  # noqa: F401

NAMES = [b"a", b"b", b"c"]
MARKER = b".cvmfscatalog"
paths = st.lists(st.sampled_from([*NAMES, MARKER]), min_size=1, max_size=4).map(
    lambda parts: b"".join(b"/" + part for part in parts)
)
tops = st.lists(st.sampled_from(NAMES), max_size=2).map(
    lambda parts: b"".join(b"/" + part for part in parts)
)
edits = st.lists(
    st.tuples(paths, st.one_of(st.none(), st.sampled_from([b"", b"one", b"two", b"link"]))), max_size=8
)  # fmt: skip


def apply(press, draft, changes, allowed=lambda path: True):  # noqa: F811
    """Put files (parents are made), or remove, as far as it makes sense."""
    for path, content in changes:
        parts = path.split(b"/")
        if not allowed(path) or MARKER in parts[:-1]:
            continue
        if content is None:
            draft.remove(path)
            continue
        above = [b"/".join(parts[:end]) for end in range(2, len(parts))]
        if any((item := draft.find(folder)) and not item.entry.is_directory for folder in above):
            continue
        for folder in above:
            if draft.find(folder) is None:
                draft.put(folder_item(folder))
        if content == b"link" and parts[-1] != MARKER:
            draft.put(link_item(path))
            continue
        item = file_item(path, content)
        press.store.put(object_path(item.entry.digest, ObjectKind.PLAIN), b"")
        draft.put(item)


def made_of(press, base, changes, allowed=lambda path: True):  # noqa: F811
    with press.draft(base) as draft:
        apply(press, draft, changes, allowed)
        return draft.finish().root.digest if draft.is_changed else base


def tree(press, root):  # noqa: F811
    press.root = root
    items, _ = press.read()
    return {
        path: (item.entry.kind, item.entry.digest, item.entry.symlink)
        for path, item in items.items()
    }


@settings(max_examples=60, deadline=None)
@given(edits, edits, edits, tops)
def test_a_merge_changes_what_the_publisher_changed_below_the_lease(
    tmp_path_factory, base, theirs, others, top
):
    made = Press(tmp_path_factory.mktemp("press"))
    old = made_of(made, made.root, base)
    new = made_of(made, old, theirs)
    last = made_of(
        made, old, others, lambda path: not is_below(path, top) and not is_below(top, path)
    )
    new_tree, last_tree = tree(made, new), tree(made, last)
    expected = {path: one for path, one in last_tree.items() if not is_below(path, top)}
    expected |= {path: one for path, one in new_tree.items() if is_below(path, top)}
    if top in new_tree:
        expected |= {p: one for p, one in new_tree.items() if is_below(top, p)}

    with made.draft(last) as draft:
        merge = Merge(old, new, top, made.store)
        try:
            merge.put_into(draft)
        except ConflictError:
            # the publisher removed or replaced a folder above the lease
            assert any(new_tree.get(p) != one for p, one in last_tree.items() if is_below(top, p))
            return
        merged = draft.finish().root.digest if draft.is_changed else last

    assert tree(made, merged) == expected


def test_hard_links_stay_together(press):  # noqa: F811
    items = [file_item(b"/a/" + name, b"same") for name in (b"x", b"y", b"z")]
    press.store.put(object_path(items[0].entry.digest, ObjectKind.PLAIN), b"")
    old = press.root
    with press.draft() as draft:
        draft.put(folder_item(b"/a"))
        draft.put_linked(items)
        new = draft.finish().root.digest
    with press.draft(old) as draft:
        Merge(old, new, b"/a", press.store).put_into(draft)
        press.root = draft.finish().root.digest

    linked = [item for path, item in press.read()[0].items() if path.startswith(b"/a/")]
    assert [item.entry.link_count for item in linked] == [3, 3, 3]


def test_what_only_the_repositorys_own_folder_has_is_no_publishers_to_set(press):  # noqa: F811
    old = press.root
    marked = folder_item(b"/a")
    flags = marked.entry.flags | EntryFlag.HIDDEN | EntryFlag.BIND_MOUNTPOINT
    with press.draft() as draft:
        draft.put(replace(marked, entry=replace(marked.entry, flags=flags)))
        new = draft.finish().root.digest
    with press.draft(old) as draft:
        Merge(old, new, b"", press.store).put_into(draft)
        press.root = draft.finish().root.digest

    assert press.read()[0][b"/a"].entry.flags == marked.entry.flags
