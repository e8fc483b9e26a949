import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.chunker import ChunkSizes, CutFinder


def marks_byte_by_byte(data, sizes):
    """The detector as the format describes it, one byte at a time."""
    marks, last = [], 0
    while True:
        x, cut = 0, None
        for at in range(last + sizes.minimum - 32, len(data)):
            if at == last + sizes.maximum:
                cut = at
                break
            x = (x << 1 ^ data[at]) & 0xFFFF_FFFF
            signed = x - (1 << 32) if x >> 31 else x
            distance = (signed - 0x7FFF_FFFF + 2**31) % 2**32 - 2**31
            near = distance == -(2**31) or abs(distance) < 0xFFFF_FFFF // sizes.average
            if at >= last + sizes.minimum and near:
                cut = at
                break
        if cut is None:
            return marks
        marks.append(cut)
        last = cut


def marks(data, sizes, block):
    finder = CutFinder(sizes)
    return [m for at in range(0, len(data), block) for m in finder.feed(data[at : at + block])]


def sizes():
    return st.tuples(st.integers(33, 300), st.integers(0, 400), st.integers(0, 3000)).map(
        lambda t: ChunkSizes(t[0], t[0] + t[1], t[0] + t[1] + t[2])
    )


runs = st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 60)), max_size=20)


@given(runs, sizes(), st.integers(1, 700))
def test_marks_equal_the_detector_byte_by_byte(pieces, chosen, block):
    data = b"".join(piece * times for piece, times in pieces)

    assert marks(data, chosen, block) == marks_byte_by_byte(data, chosen)


@given(st.integers(), st.sampled_from([70, 4096, 70_000]))
def test_marks_equal_it_on_random_bytes(seed, average):
    chosen = ChunkSizes(64, average, average * 4)
    data = random.Random(seed).randbytes(6000)

    assert marks(data, chosen, 1000) == marks_byte_by_byte(data, chosen)


def test_state_of_all_ones_cuts():
    chosen = ChunkSizes(40, 1000, 4000)

    assert (
        marks(b"\x01" * 100, chosen, 100) == marks_byte_by_byte(b"\x01" * 100, chosen) == [40, 80]
    )


@pytest.mark.parametrize("value", [0, 0x61, 0xFF])
def test_constant_bytes_are_cut_at_the_maximum(value):
    assert marks(bytes([value]) * 900, ChunkSizes(64, 128, 256), 77) == [256, 512, 768]


def test_the_end_of_a_file_is_no_mark():
    assert marks(bytes(512), ChunkSizes(64, 128, 256), 512) == [256]


def test_senseless_sizes_are_refused():
    with pytest.raises(InvalidInputError):
        ChunkSizes(100, 50, 200)
