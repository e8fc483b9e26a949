import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm
from cernvm.core.errors import FormatError
from cernvm.fs.cache.breadcrumb import (
    Breadcrumb,
    DiskBreadcrumbs,
    format_breadcrumb,
    parse_breadcrumb,
)

breadcrumbs = st.builds(
    Breadcrumb,
    st.builds(lambda a, b: a.digest(b), st.sampled_from(Algorithm), st.binary(max_size=3)),
    st.integers(0, 10**12 - 1),
    st.integers(0, 10**20 - 1),
)


@given(breadcrumbs)
def test_a_breadcrumb_survives_being_written(breadcrumb):
    assert parse_breadcrumb(format_breadcrumb(breadcrumb)) == breadcrumb


def test_the_line_of_the_original_client_is_understood():
    line = b"600230b0ba7620426f2e898f1e1f43c5466efe59T1795259171R4"

    assert parse_breadcrumb(line).revision == 4
    assert parse_breadcrumb(line[:-2]).revision == 0


@given(st.binary(max_size=300))
def test_anything_else_is_a_format_error(data):
    try:
        parse_breadcrumb(data)
    except FormatError:
        pass


def test_a_damaged_breadcrumb_counts_as_none(tmp_path):
    (tmp_path / "cvmfschecksum.a.b").write_bytes(b"\xff\0")

    assert DiskBreadcrumbs(tmp_path).last_seen("a.b") is None


@pytest.mark.parametrize("name", ["../x", "a/b.c", ""])
def test_a_name_cannot_lead_out_of_the_folder(tmp_path, name):
    from cernvm.core.errors import InvalidInputError

    with pytest.raises(InvalidInputError):
        DiskBreadcrumbs(tmp_path).last_seen(name)
