import stat

from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm
from cernvm.fs.format.entry import Entry, EntryFlag
from cernvm.fs.publish.plan import CatalogLimits, link_counts, split
from cernvm.fs.survey.database import Item

MARKER = Entry(
    b".cvmfscatalog",
    stat.S_IFREG | 0o644,
    0,
    0,
    0,
    0,
    EntryFlag.FILE,
    digest=Algorithm.SHA1.digest(b""),
)


def item(path, *, is_directory):
    mode = stat.S_IFDIR | 0o755 if is_directory else stat.S_IFREG | 0o644
    flags = EntryFlag.DIRECTORY if is_directory else EntryFlag.FILE
    return Item(path, Entry(path.rpartition(b"/")[2], mode, 0, 0, 0, 0, flags))


def items_of(files):
    """Files and all directories above them, in path order."""
    folders = {path[:at] for path in files for at, byte in enumerate(path) if byte == 47} | {b""}
    paths = {path: False for path in files if path not in folders} | dict.fromkeys(folders, True)
    return [item(path, is_directory=paths[path]) for path in sorted(paths)]


names = st.sampled_from([b"a", b"b", b"c", b".cvmfscatalog"])
trees = st.sets(
    st.lists(names, min_size=1, max_size=4).map(lambda p: b"/" + b"/".join(p)), max_size=60
)
limits = st.tuples(st.integers(1, 30), st.integers(1, 10)).map(lambda t: CatalogLimits(*t))


@given(trees, limits)
def test_every_path_is_in_exactly_one_catalog(files, chosen):
    items = items_of(files)

    catalogs = split(items, top=b"", limits=chosen, marker=MARKER)

    held = [i for held in catalogs.values() for i in held]
    real = [i.path for i in held if not i.entry.is_nested_mountpoint]
    made = [path for path in real if path not in {i.path for i in items}]
    assert len(real) == len(set(real))
    assert set(real) == {i.path for i in items} | set(made)
    assert all(path.endswith((b"/.cvmfscatalog", b"/.cvmfsautocatalog")) for path in made)
    assert {i.path for i in held if i.entry.is_nested_mountpoint} == set(catalogs) - {b""}
    for prefix, inside in catalogs.items():
        assert inside[0].path == prefix
        assert inside[0].entry.is_nested_root == (prefix != b"")


@given(trees, limits)
def test_catalogs_are_as_small_as_directories_allow(files, chosen):
    items = items_of(files)

    catalogs = split(items, top=b"", limits=chosen, marker=MARKER)

    for prefix, inside in catalogs.items():
        if len(inside) - 3 > chosen.most_entries:  # its root and two markers
            apart = {i.path for i in inside if i.entry.is_directory and i.path != prefix}
            below = {p: sum(i.path.startswith(p + b"/") for i in inside) for p in apart}
            assert max(below.values(), default=0) < chosen.fewest_entries


def test_marked_directories_are_catalogs_whatever_their_size():
    catalogs = split(
        items_of({b"/a/.cvmfscatalog", b"/a/b/.cvmfscatalog", b"/c"}),
        top=b"",
        limits=CatalogLimits(),
        marker=MARKER,
    )

    assert {p: [i.path for i in held] for p, held in catalogs.items()} == {
        b"": [b"", b"/a", b"/c"],
        b"/a": [b"/a", b"/a/.cvmfscatalog", b"/a/b"],
        b"/a/b": [b"/a/b", b"/a/b/.cvmfscatalog"],
    }


def test_link_counts_count_subdirectories():
    assert link_counts(items_of({b"/a/b/c", b"/a/d/e", b"/f"})) == {
        b"": 3,
        b"/a": 4,
        b"/a/b": 2,
        b"/a/d": 2,
    }
