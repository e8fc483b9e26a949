import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import CatalogFormatError, InvalidInputError
from cernvm.fs.format import catalog
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import Chunk, Entry, EntryFlag, check_chunks
from cernvm.fs.format.xattrs import format_xattrs, parse_xattrs

names = st.binary(min_size=1, max_size=255).filter(
    lambda n: b"/" not in n and b"\0" not in n and n not in (b".", b"..")
)
digests = st.builds(Digest, st.sampled_from(Algorithm), st.binary(min_size=20, max_size=20))
attributes = st.dictionaries(
    st.binary(min_size=1, max_size=30).filter(lambda k: b"\0" not in k),
    st.binary(max_size=255),
    max_size=4,
)
common = {
    "name": names,
    "mtime_s": st.integers(-(2**40), 2**40),
    "uid": st.integers(0, 2**32 - 1),
    "gid": st.integers(0, 2**32 - 1),
    "mtime_ns": st.none() | st.integers(0, 10**9 - 1),
    "xattrs": attributes,
    "hardlink_group": st.integers(0, 2**31 - 1),
    "link_count": st.integers(1, 2**31),
}
files = st.builds(
    Entry,
    mode=st.integers(0, 0o7777).map(lambda bits: stat.S_IFREG | bits),
    size=st.integers(0, 2**62),
    flags=st.just(EntryFlag.FILE),
    digest=digests,
    compression=st.sampled_from(Compression),
    **common,
)
links = st.builds(
    Entry,
    mode=st.just(stat.S_IFLNK | 0o777),
    size=st.integers(1, 4096),
    flags=st.just(EntryFlag.FILE | EntryFlag.SYMLINK),
    symlink=st.binary(min_size=1, max_size=80).filter(lambda t: b"\0" not in t),
    **common,
)


def row_of(entry, path, algorithm=Algorithm.SHA1):
    """The columns of `entry_columns` out of a full row."""
    full = catalog.format_entry(entry, path, algorithm=algorithm)
    inserted = catalog.INSERT_ENTRY.partition("(")[2].partition(")")[0].split(", ")
    values = dict(zip(inserted, full, strict=True))
    return [values[column] for column in catalog.entry_columns(7).split(", ")]


@given(files | links)
def test_entries_survive_being_written(entry):
    assert catalog.parse_entry(row_of(entry, b"/" + entry.name)) == entry


@given(attributes)
def test_xattrs_survive_being_written(values):
    assert dict(parse_xattrs(format_xattrs(values))) == values


@given(st.binary(max_size=80))
def test_any_blob_is_xattrs_or_our_error(blob):
    try:
        parse_xattrs(blob)
    except CatalogFormatError:
        pass


def test_xattrs_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInputError):
        format_xattrs({b"user.a": bytes(256)})


cells = st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=30) | st.floats()


@given(st.lists(cells, min_size=12, max_size=12))
def test_any_row_is_an_entry_or_our_error(row):
    try:
        catalog.parse_entry(row)
    except CatalogFormatError:
        pass


@given(files, st.integers(0, 11), cells)
def test_a_row_with_one_wrong_cell_is_an_entry_or_our_error(entry, column, cell):
    row = row_of(entry, b"/" + entry.name)
    row[column] = cell
    try:
        catalog.parse_entry(row)
    except CatalogFormatError:
        pass


@given(st.lists(cells, min_size=3, max_size=3))
def test_any_reference_is_a_value_or_our_error(row):
    for parse in (catalog.parse_nested, lambda r: catalog.parse_chunk(r, algorithm=Algorithm.SHA1)):
        try:
            parse(row)
        except CatalogFormatError:
            pass


@given(st.lists(st.tuples(st.binary(max_size=12) | st.just(b"schema"), cells), max_size=5))
def test_any_properties_are_a_value_or_our_error(rows):
    try:
        catalog.parse_properties(rows)
    except CatalogFormatError:
        pass


@pytest.mark.parametrize(
    "name", [b".", b"..", b"a/b", b"/", b"a\0b", b"x" * 256], ids=lambda name: repr(name)[:12]
)
def test_names_that_would_leave_their_folder_are_refused(name):
    with pytest.raises(CatalogFormatError):
        Entry(name, stat.S_IFREG, 0, 0, 0, 0, EntryFlag.FILE)


def test_mode_and_flags_must_agree():
    with pytest.raises(CatalogFormatError, match="disagree"):
        Entry(b"a", stat.S_IFREG, 0, 0, 0, 0, EntryFlag.DIRECTORY)


@pytest.mark.parametrize("path", [b"", b"a", b"/a/", b"/a//b", b"/a/../b", b"/.", b"/a\0"])
def test_nested_catalogs_elsewhere_are_refused(path):
    with pytest.raises(CatalogFormatError):
        catalog.parse_nested((path, b"0" * 40, 1))


@pytest.mark.parametrize("schema", [b"2.0", b"2.3", b"2.6", b"3.0", b"1.0", b"0.9", b"", b"x"])
def test_other_schemas_are_refused(schema):
    with pytest.raises(CatalogFormatError, match="schema"):
        catalog.parse_properties([(b"schema", schema)])


@pytest.mark.parametrize("schema", [b"2.5", b"2.5.0", b"2.4"])
def test_what_publishers_still_write_is_read(schema):
    assert not catalog.parse_properties([(b"schema", schema)]).is_legacy


@pytest.mark.parametrize("schema", [b"0.9", b"1.0", b"1.1"])
def test_what_was_before_2_0_is_read_where_that_is_allowed(schema):
    assert catalog.parse_properties([(b"schema", schema)], may_be_legacy=True).is_legacy


@pytest.mark.parametrize("schema", [b"2.0", b"2.1", b"2.3", b"", b"2", b"-1.0", b"1e0.0"])
def test_what_nobody_reads_is_no_legacy_either(schema):
    with pytest.raises(CatalogFormatError, match="schema"):
        catalog.parse_properties([(b"schema", schema)], may_be_legacy=True)


def test_later_revisions_are_accepted():
    later = catalog.parse_properties([(b"schema", b"2.5"), (b"schema_revision", b"9")])
    assert later.schema_revision == 9


def test_columns_of_old_schemas_read_as_null():
    assert "NULL AS mtimens" in catalog.entry_columns(6)
    assert "NULL AS xattr" in catalog.entry_columns(1)


def test_chunks_must_cover_the_file():
    digest = Digest(Algorithm.SHA1, bytes(20))
    first, second = Chunk(0, 10, digest), Chunk(10, 5, digest)

    assert check_chunks((second, first), size=15, where="f") == (first, second)
    for chunks, size in [((first,), 15), ((second,), 5), ((first, first), 20), ((), 3)]:
        with pytest.raises(CatalogFormatError):
            check_chunks(chunks, size=size, where="f")
