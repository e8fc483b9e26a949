import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm
from cernvm.core.errors import CatalogFormatError, HostError
from cernvm.fs.cache.content import MemoryContent
from cernvm.fs.format.entry import Chunk, Entry, EntryFlag
from cernvm.fs.reader.pieces import pieces_of, read_pieces

CHUNKED = EntryFlag.FILE | EntryFlag.CHUNKED


def file_of(sizes):
    """A chunked file, its chunks, and their contents by digest."""
    chunks, contents, offset = [], {}, 0
    for number, size in enumerate(sizes):
        digest = Algorithm.SHA1.digest(b"%d" % number)
        contents[digest] = MemoryContent(bytes([number % 256]) * size)
        chunks.append(Chunk(offset, size, digest))
        offset += size
    entry = Entry(name=b"f", mode=0o100644, size=offset, mtime_s=0, uid=0, gid=0, flags=CHUNKED)
    return entry, chunks, contents


def whole_only(piece):
    raise AssertionError(f"{piece} is whole")


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=12),
    st.integers(0, 700),
    st.integers(0, 700),
    st.randoms(use_true_random=False),
)
def test_any_stretch_of_a_chunked_file_is_what_it_is_of_the_whole(sizes, offset, length, random):
    entry, chunks, contents = file_of(sizes)
    random.shuffle(chunks)
    pieces = pieces_of(entry, chunks, path=b"/f")
    whole = b"".join(contents[piece.key.digest].data for piece in pieces)

    got = read_pieces(pieces, offset, length, lambda piece: contents[piece.key.digest], whole_only)

    assert got == whole[offset : offset + length]


def test_only_the_chunks_that_are_needed_are_asked_for():
    entry, chunks, contents = file_of([10, 10, 10])
    asked = []

    def get(piece):
        asked.append(piece.offset)
        return contents[piece.key.digest]

    read_pieces(pieces_of(entry, chunks, path=b"/f"), 12, 5, get, whole_only)

    assert asked == [10]


def test_what_is_not_at_hand_makes_no_half_answer():
    entry, chunks, contents = file_of([10, 10])
    pieces = pieces_of(entry, chunks, path=b"/f")

    def get(piece):
        return contents[piece.key.digest] if piece.offset == 0 else None

    assert read_pieces(pieces, 5, 10, get, whole_only) is None
    assert read_pieces(pieces, 5, 5, get, whole_only) == b"\0" * 5


def test_a_file_without_digest_or_chunks_is_refused():
    entry = Entry(name=b"f", mode=0o100644, size=5, mtime_s=0, uid=0, gid=0, flags=EntryFlag.FILE)
    with pytest.raises(CatalogFormatError):
        pieces_of(entry, (), path=b"/f")


def test_content_that_was_cut_short_under_its_reader_is_asked_for_again():
    entry, chunks, contents = file_of([10])
    pieces = pieces_of(entry, chunks, path=b"/f")
    kept = [MemoryContent(b"\0" * 4)]

    def get(_piece):
        return kept[0]

    def damaged(piece):
        kept[0] = contents[piece.key.digest]

    assert read_pieces(pieces, 0, 10, get, damaged) == b"\0" * 10


def test_content_that_stays_cut_short_is_an_error_and_no_short_file():
    entry, chunks, _ = file_of([10])

    with pytest.raises(HostError, match="cut short"):
        read_pieces(
            pieces_of(entry, chunks, path=b"/f"),
            0,
            10,
            lambda _: MemoryContent(b"\0" * 4),
            lambda _: None,
        )
