import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm
from cernvm.core.errors import CatalogFormatError, FormatError
from cernvm.fs.format.catalog import path_key
from cernvm.fs.format.pack import Pack
from cernvm.fs.format.pack_table import (
    MAX_PACKS,
    PackedStretch,
    PackTable,
    format_stretch,
    is_label,
    packing_key,
    parse_pack_table,
    parse_profile_rows,
)

parts = st.binary(min_size=1, max_size=3).filter(
    lambda part: b"/" not in part and b"\0" not in part
)
paths = st.lists(parts, min_size=1, max_size=4).map(lambda names: b"".join(b"/" + n for n in names))


def pack(number):
    return Pack(Algorithm.SHA1.digest(b"%d" % number), 100 + number, 1)


def table_of(groups):
    return PackTable(
        PackedStretch(group[0], group[-1], pack(at)) for at, group in enumerate(groups)
    )


@st.composite
def packed_trees(draw):
    """Files in packing order, cut into stretches."""
    files = sorted(draw(st.sets(paths, min_size=1, max_size=30)), key=packing_key)
    cuts = sorted(draw(st.sets(st.integers(1, 30), max_size=6)))
    groups = [files[low:high] for low, high in zip([0, *cuts], [*cuts, len(files)], strict=True)]
    return [group for group in groups if group]


@given(packed_trees())
def test_a_file_is_found_in_its_pack(groups):
    table = table_of(groups)
    for at, group in enumerate(groups):
        for path in group:
            assert table.of_file(path) == pack(at)


@given(packed_trees(), paths | st.just(b""))
def test_the_packs_of_a_directory_are_all_that_hold_a_file_of_it(groups, folder):
    table = table_of(groups)
    direct, below = set(), set()
    for at, group in enumerate(groups):
        for path in group:
            if path.rpartition(b"/")[0] == folder:
                direct.add(pack(at))
            if path.startswith(folder + b"/"):
                below.add(pack(at))

    assert direct <= set(table.of_directory(folder))
    assert below <= set(table.of_subtree(folder))
    # what is found besides can only be one that reaches over the place
    assert not below or len(table.of_subtree(folder)) <= len(below) + 1
    assert len(table.of_directory(folder)) <= len(direct) + 1


@given(packed_trees())
def test_a_walk_meets_the_packs_in_order(groups):
    table = table_of(groups)
    for at, group in enumerate(groups):
        expected = [pack(n) for n in range(at + 1, min(at + 3, len(groups)))]
        assert list(table.after(group[-1], 2)) == expected


@given(packed_trees())
def test_tables_survive_being_written(groups):
    table = table_of(groups)
    rows = [format_stretch(stretch) for stretch in reversed(table.stretches)]
    assert parse_pack_table(rows).stretches == table.stretches


@given(st.sets(paths, max_size=20))
def test_the_order_is_that_of_a_walk_which_lists_each_directory_by_hash(files):
    folders = {path[:at] for path in files for at, byte in enumerate(path) if byte == ord("/")}

    def walk(folder):
        here = {path for path in files | folders if path and path.rpartition(b"/")[0] == folder}
        listed = sorted(here, key=lambda path: path_key(path)[0] & ((1 << 62) - 1))
        yield from (path for path in listed if path in files)
        for path in listed:
            if path in folders:
                yield from walk(path)

    assert sorted(files, key=packing_key) == list(walk(b""))


@pytest.mark.parametrize(
    "change",
    [
        {0: None},
        {0: "text"},
        {0: b"relative"},
        {0: b"/" + b"x" * 5000},
        {1: b"/"},
        {2: b"0"},
        {2: None},
        {3: -1},
        {3: 1 << 40},
        {3: "1"},
        {4: 0},
        {4: 1.5},
    ],
)
def test_rows_that_make_no_sense_are_refused(change):
    row = list(format_stretch(PackedStretch(b"/b", b"/c/d", pack(1))))
    parse_pack_table([row])
    for column, value in change.items():
        row[column] = value
    with pytest.raises(CatalogFormatError):
        parse_pack_table([row])


def test_stretches_that_overlap_are_refused():
    files = sorted([b"/a", b"/b", b"/c/d", b"/c/e"], key=packing_key)
    rows = [
        format_stretch(PackedStretch(files[0], files[2], pack(1))),
        format_stretch(PackedStretch(files[1], files[3], pack(2))),
    ]
    with pytest.raises(CatalogFormatError, match="overlap"):
        parse_pack_table(rows)


def test_a_table_without_end_is_refused():
    with pytest.raises(CatalogFormatError, match="too many"):
        parse_pack_table([()] * (MAX_PACKS + 1))


def test_a_table_of_paths_that_are_too_deep_is_refused_at_once():
    deep = b"/d" * 2000
    rows = [
        format_stretch(PackedStretch(b"%b/%d" % (deep, at), b"%b/%d" % (deep, at), pack(at)))
        for at in range(2000)
    ]
    started = time.process_time()
    with pytest.raises(CatalogFormatError, match="too deep"):
        parse_pack_table(rows)
    assert time.process_time() - started < 1


def test_profiles_are_named_by_plain_labels():
    digest = str(Algorithm.RMD160.digest(b""))
    assert parse_profile_rows([(b"numpy-1.26", digest.encode())]) == {
        "numpy-1.26": Algorithm.RMD160.digest(b"")
    }
    for label in (b"", b"-x", b"a/b", b"a b", b"x" * 65, "é", None):
        assert not is_label(str(label, "latin-1") if isinstance(label, bytes) else label or "")
        with pytest.raises(FormatError):
            parse_profile_rows([(label or b"", digest)])
