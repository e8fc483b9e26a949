import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import FormatError
from cernvm.fs.format.profile import MAX_ACCESSES
from cernvm.fs.format.reads import FirstRead, format_read, parse_reads

from .test_profile import paths

reads = st.lists(st.builds(FirstRead, paths, st.integers(0, 1 << 48)), max_size=8, unique=True)


@given(reads)
def test_reads_survive_being_written(listed):
    assert parse_reads(b"".join(map(format_read, listed))) == tuple(listed)


@given(reads, st.data())
def test_of_a_record_that_is_cut_off_the_whole_lines_count(listed, data):
    text = b"".join(map(format_read, listed))
    end = data.draw(st.integers(0, len(text)))
    assert parse_reads(text[:end]) == tuple(listed)[: text[:end].count(b"\n")]


@given(st.binary(max_size=60))
def test_any_bytes_are_reads_or_our_error(data):
    try:
        parse_reads(data + b"\n")
    except FormatError:
        pass


def test_no_more_is_taken_than_a_profile_holds():
    lines = b"".join(format_read(FirstRead(b"/f", at)) for at in range(MAX_ACCESSES + 5))
    assert len(parse_reads(lines + lines)) == MAX_ACCESSES


@pytest.mark.parametrize(
    "line", [b"x /f", b"-1 /f", b"1", b"1 f", b"1 /a/../b", b"1 /a%2", b"\xff /f"]
)
def test_a_line_that_makes_no_sense_is_named(line):
    with pytest.raises(FormatError, match="line 2"):
        parse_reads(b"0 /f\n" + line + b"\n")
