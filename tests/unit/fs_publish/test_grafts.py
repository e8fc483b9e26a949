import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm
from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import Chunk
from cernvm.fs.publish.grafts import Graft, format_graft, parse_graft


@st.composite
def grafts(draw):
    algorithm = draw(st.sampled_from(Algorithm))
    sizes = draw(st.lists(st.integers(1, 1 << 40), max_size=5))
    chunks, offset = [], 0
    for size in sizes:
        chunks.append(Chunk(offset, size, algorithm.digest(b"%d" % offset)))
        offset += size
    compression = draw(st.sampled_from([None, *Compression]))
    return Graft(offset, algorithm.digest(b"whole"), tuple(chunks), compression)


@given(grafts())
def test_grafts_survive_being_written(graft):
    assert parse_graft(format_graft(graft), where="x") == graft


def test_a_graft_as_the_original_writes_it_is_read():
    text = (
        b"# made by hand\nsize=30\nchecksum=" + b"a" * 40 + b"\n\n"
        b"chunk_offsets=0,24\nchunk_checksums=" + b"b" * 40 + b"," + b"c" * 40 + b"\n"
        b"compression=none\nlater=unknown\n"
    )
    graft = parse_graft(text, where="x")

    assert [(c.offset, c.size) for c in graft.chunks] == [(0, 24), (24, 6)]
    assert graft.compression is Compression.NONE


@pytest.mark.parametrize(
    "text",
    [
        b"size=3",
        b"checksum=" + b"a" * 40,
        b"size=-3\nchecksum=" + b"a" * 40,
        b"size=99999999999999999999\nchecksum=" + b"a" * 40,
        b"size=3\nchecksum=zz",
        b"size=3\nchecksum=" + b"a" * 40 + b"\nchunk_offsets=0",
        b"size=3\nchecksum=" + b"a" * 40 + b"\nchunk_offsets=1\nchunk_checksums=" + b"a" * 40,
        b"size=3\nchecksum=" + b"a" * 40 + b"\nchunk_offsets=3\nchunk_checksums=" + b"a" * 40,
        b"size=3\nchecksum=" + b"a" * 40 + b"\ncompression=zstd",
        b"nothing at all",
    ],
)
def test_a_graft_that_lacks_something_is_refused_by_name(text):
    with pytest.raises(InvalidInputError, match=r"/tree/\.cvmfsgraft-x"):
        parse_graft(text, where="/tree/.cvmfsgraft-x")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_graft_or_our_error(data):
    try:
        parse_graft(data, where="x")
    except InvalidInputError:
        pass
