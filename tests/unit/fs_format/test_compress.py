import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import ObjectFormatError
from cernvm.fs.format.compress import Compression, Inflater, deflate, deflate_content, inflate


@given(st.binary(max_size=5000), st.sampled_from(Compression), st.integers(1, 999))
def test_content_survives_being_stored(data, compression, block):
    stored = deflate_content(data * 20, compression)
    inflater = Inflater(compression, limit_bytes=len(data) * 20)
    pieces = [
        piece
        for at in range(0, len(stored), block)
        for piece in inflater.feed(stored[at : at + block])
    ]
    inflater.finish()

    assert b"".join(pieces) == data * 20


def test_plain_zlib_reads_what_we_deflate():
    data = bytes(range(256)) * 500

    assert zlib.decompress(deflate_content(data, Compression.ZLIB)) == data
    assert deflate(data) == zlib.compress(data)


def test_empty_file_has_the_originals_object():
    assert deflate_content(b"", Compression.ZLIB).hex() == "789c030000000001"


def test_zip_bomb_stops_at_the_limit_without_the_memory():
    bomb = zlib.compress(bytes(200 << 20), 9)
    tracemalloc.start()
    with pytest.raises(ObjectFormatError, match="larger than 1000000 bytes"):
        inflate(bomb, limit_bytes=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 16 << 20


@pytest.mark.parametrize("cut", [0, 1, 2, 10, -1, -4])
def test_cut_off_streams_are_refused(cut):
    with pytest.raises(ObjectFormatError):
        inflate(zlib.compress(b"x" * 1000 + bytes(range(256)))[:cut], limit_bytes=5000)


def test_bytes_after_the_stream_are_refused():
    with pytest.raises(ObjectFormatError, match="follow"):
        inflate(zlib.compress(b"abc") + b"x", limit_bytes=5000)


def test_flipped_bits_never_give_other_content():
    stored = deflate(bytes(range(256)) * 4)
    for at in range(len(stored) * 8):
        damaged = bytearray(stored)
        damaged[at // 8] ^= 1 << at % 8
        try:
            content = inflate(bytes(damaged), limit_bytes=1 << 20)
        except ObjectFormatError:
            continue
        assert content == bytes(range(256)) * 4  # a bit that means nothing, as the level hint


@given(st.binary(max_size=300))
def test_any_bytes_are_content_or_our_error(data):
    try:
        inflate(data, limit_bytes=10_000)
    except ObjectFormatError:
        pass
