"""Random changes, against a plain dictionary of paths."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cernvm.core.errors import InvalidInputError, NotFoundError
from cernvm.fs.format.entry import EntryKind
from cernvm.fs.publish.draft import CatalogLimits
from cernvm.fs.survey.check.tree import TreeCheck

from .conftest import Press, file_item, folder_item, link_item

MARKS = (b".cvmfscatalog", b".cvmfsautocatalog")

names = st.sampled_from([b"a", b"b", b"c", b".cvmfscatalog"])
paths = st.lists(names, min_size=1, max_size=4).map(lambda parts: b"/" + b"/".join(parts))
contents = st.sampled_from([b"", b"1", b"2"])
items = st.one_of(
    st.builds(file_item, paths, contents),
    st.builds(file_item, paths, contents, chunks=st.integers(1, 3)),
    st.builds(link_item, paths),
    st.builds(folder_item, paths, mtime_s=st.integers(1, 2)),
)
changes = st.one_of(
    st.tuples(st.just("put"), items),
    st.tuples(st.just("make"), items),
    st.tuples(st.just("make"), items),
    st.tuples(st.just("link"), paths, st.sets(names, min_size=2, max_size=3), contents),
    st.tuples(st.just("remove"), paths),
    st.tuples(st.just("clear"), paths),
    st.tuples(st.just("copy"), paths, paths),
    st.tuples(st.just("restore"), paths),
)
limits = st.tuples(st.integers(3, 20), st.integers(1, 5)).map(lambda pair: CatalogLimits(*pair))
revisions = st.lists(st.tuples(st.lists(changes, max_size=12), limits), min_size=1, max_size=4)


class Model:
    """A tree as a dictionary, where link counts do not matter and links are sets of paths."""

    def __init__(self, items, links=()):
        self.items = dict(items)
        self.links = set(links)

    def below(self, path):
        return [one for one in self.items if one.startswith(path + b"/")]

    def is_folder(self, path):
        return path in self.items and self.items[path].entry.is_directory

    def remove(self, path):
        for one in [path, *self.below(path)]:
            if one in self.items:
                del self.items[one]
                self._unlink(one)

    def put(self, item):
        parent, _, name = item.path.rpartition(b"/")
        if name == MARKS[0] and item.entry.kind is not EntryKind.FILE:
            raise InvalidInputError("a marker is a file")
        if not self.is_folder(parent):
            raise NotFoundError("directory", "")
        if not (self.is_folder(item.path) and item.entry.is_directory):
            self.remove(item.path)
        self._unlink(item.path)
        self.items[item.path] = item

    def ensure(self, folder):
        parts = folder.split(b"/")
        for depth in range(2, len(parts) + 1):
            path = b"/".join(parts[:depth])
            if path not in self.items:
                self.put(folder_item(path))
            elif not self.is_folder(path):
                raise InvalidInputError("no directory")

    def link(self, items):
        for item in items:
            self.put(item)
        if len(items) > 1:
            self.links.add(frozenset(item.path for item in items))

    def copy(self, source, target, other):
        if other is self and source == target:
            return
        if source not in other.items or not self.is_folder(target.rpartition(b"/")[0]):
            raise NotFoundError("path", "")
        if other is self and (target.startswith(source + b"/") or source.startswith(target + b"/")):
            raise InvalidInputError("into itself")
        if target.endswith(MARKS[0]) and other.items[source].entry.kind is not EntryKind.FILE:
            raise InvalidInputError("a marker is a file")
        taken = {p: other.items[p] for p in [source, *other.below(source)]}
        links = {group for group in other.links if group <= set(taken)}
        self.remove(target)
        for path, item in taken.items():
            moved = target + path[len(source) :]
            entry = replace(item.entry, name=moved.rpartition(b"/")[2])
            self.items[moved] = replace(item, path=moved, entry=entry)
        self.links |= {frozenset(target + p[len(source) :] for p in group) for group in links}

    def _unlink(self, path):
        for group in [group for group in self.links if path in group]:
            self.links.remove(group)
            rest = group - {path}
            if len(rest) > 1:
                self.links.add(rest)


def apply(change, draft, model, old):
    """Do one change to both, which must agree on whether it can be done."""
    match change:
        case ("put", item):
            both(lambda: draft.put(item), lambda: model.put(item))
        case ("make", item):
            folder = item.path.rpartition(b"/")[0]
            like = folder_item(b"").entry
            both(lambda: draft.ensure_folders(folder, like), lambda: model.ensure(folder))
            if model.is_folder(folder):
                both(lambda: draft.put(item), lambda: model.put(item))
        case ("link", folder, linked, content):
            made = [file_item(folder + b"/" + name, content) for name in sorted(linked)]
            both(lambda: draft.put_linked(made), lambda: model.link(made))
        case ("remove", path):
            draft.remove(path)
            model.remove(path)
        case ("clear", path):
            if model.is_folder(path):
                draft.clear(path)
                for one in model.below(path):
                    model.remove(one)
        case ("copy", source, target):
            both(lambda: draft.copy(source, target), lambda: model.copy(source, target, model))
        case ("restore", path):
            root, tree = old
            both(lambda: draft.copy(path, path, root), lambda: model.copy(path, path, tree))


def both(one, other):
    answers = []
    for act in (one, other):
        try:
            act()
            answers.append(None)
        except (NotFoundError, InvalidInputError) as error:
            answers.append(type(error))
    assert (answers[0] is None) == (answers[1] is None), answers


@settings(max_examples=40, deadline=None)
@given(made=revisions)
def test_every_revision_holds_what_a_dictionary_would(made, tmp_path_factory):
    press = Press(tmp_path_factory.mktemp("press"))
    model = Model({b"": folder_item(b"")})
    old = (press.root, Model(model.items))
    catalogs = {}
    for number, (steps, chosen) in enumerate(made):
        with press.draft() as draft:
            for change in steps:
                apply(change, draft, model, old)
            check_listing(draft, model)
            if not draft.is_changed:
                continue
            press.root = draft.finish(chosen).root.digest
        before, (found, catalogs) = catalogs, press.read()
        check_equal(found, model)
        assert not list(TreeCheck(press.store, nothing, nothing).check(press.root))
        check_untouched(before, catalogs, steps)
        for path in set(found) ^ set(model.items):  # markers that came or went with catalogs
            model.items.pop(path, None)
            if path in found:
                model.items[path] = found[path]
        if number == 0:
            old = (press.root, Model(model.items, model.links))


def nothing(*_):
    """Takes what a check tells."""


def check_listing(draft, model):
    for path in model.items:
        if model.is_folder(path):
            expected = sorted(p for p in model.below(path) if p.count(b"/") == path.count(b"/") + 1)
            assert [item.path for item in draft.listing(path)] == expected


def check_untouched(before, after, steps):
    """A catalog that no step names a path of, or above, is the one of before."""
    named = {path for step in steps for path in paths_of(step)}
    for prefix in before:
        if not any(
            (path + b"/").startswith(prefix + b"/") or (prefix + b"/").startswith(path + b"/")
            for path in named
        ):
            assert after[prefix] == before[prefix]


def paths_of(step):
    match step:
        case ("put" | "make", item):
            return [item.path]
        case ("link", folder, *_):
            return [folder]
        case (_, *named):
            return named


def check_equal(found, model):
    for path, item in model.items.items():
        if path.rpartition(b"/")[2] in MARKS and path not in found:
            continue  # a directory that was split off by itself, and is merged again
        assert plain(found[path]) == plain(item)
    assert all(path.rpartition(b"/")[2] in MARKS for path in found if path not in model.items)
    groups = {}
    for path, item in found.items():
        if item.entry.hardlink_group:
            key = (path.rpartition(b"/")[0], item.entry.hardlink_group)
            groups.setdefault(key, set()).add(path)
    assert {frozenset(group) for group in groups.values()} == model.links


def plain(item):
    return replace(item, entry=replace(item.entry, hardlink_group=0, link_count=0))
