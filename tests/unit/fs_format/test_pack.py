import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm
from cernvm.core.errors import (
    DigestMismatchError,
    FormatError,
    InvalidInputError,
    ObjectFormatError,
)
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.objects import ObjectKind, object_path, parse_object_path
from cernvm.fs.format.pack import (
    MAX_OBJECT_BYTES,
    MAX_OBJECTS,
    Pack,
    PackedObject,
    PackReader,
    format_pack,
    head_bytes,
    parse_pack_head,
)

GOLDEN = bytes.fromhex(
    "43564d5041434b31" "02000000"
    "8eb4b6a932f280335ee1a279f8c208a349e7bc65" "02" "00" "01" "00" "05000000" "05000000"
    "da39a3ee5e6b4b0d3255bfef95601890afd80709" "00" "50" "00" "00" "00000000" "07000000"
) + b"hello"  # fmt: skip


def packed(stored, algorithm=Algorithm.SHA1, kind=ObjectKind.PLAIN, compression=Compression.ZLIB):
    content_bytes = min(2 * len(stored), MAX_OBJECT_BYTES)
    return PackedObject(
        algorithm.digest(stored), kind, compression, len(stored), content_bytes
    ), stored


def announced(data, count):
    return Pack(Algorithm.SHA1.digest(data), len(data), count)


def read(data, count, steps=(1 << 20,), reader=None):
    """All that comes out of a pack fed in pieces of the given lengths, repeated."""
    reader = reader or PackReader(announced(data, count))
    found, at, turn = [], 0, 0
    while at < len(data):
        step = steps[turn % len(steps)]
        found += reader.feed(data[at : at + step])
        at, turn = at + step, turn + 1
    reader.finish()
    return found


objects = st.lists(
    st.builds(
        packed,
        st.binary(max_size=300),
        st.sampled_from(Algorithm),
        st.sampled_from([ObjectKind.PLAIN, ObjectKind.PARTIAL, ObjectKind.CATALOG]),
        st.sampled_from(Compression),
    ),
    min_size=1,
    max_size=12,
)


def test_the_bytes_are_those_of_the_specification():
    row = PackedObject(
        Algorithm.SHAKE128.digest(b"hello"), ObjectKind.PLAIN, Compression.NONE, 5, 5
    )
    empty = PackedObject(Algorithm.SHA1.digest(b""), ObjectKind.PARTIAL, Compression.ZLIB, 0, 7)

    assert format_pack([(row, b"hello"), (empty, b"")]).hex() == GOLDEN.hex()
    assert read(GOLDEN, 2) == [(row, b"hello"), (empty, b"")]


def test_packs_and_profiles_have_letters_of_their_own():
    digest = Algorithm.SHAKE128.digest(b"")
    for kind in (ObjectKind.PACK, ObjectKind.PROFILE):
        assert parse_object_path(object_path(digest, kind)) == (digest, kind)
    assert object_path(digest, ObjectKind.PACK).endswith("-shake128K")
    assert object_path(digest, ObjectKind.PROFILE).endswith("-shake128F")


@given(objects, st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_objects_come_out_as_they_went_in_however_the_pack_arrives(listed, steps):
    assert read(format_pack(listed), len(listed), steps) == listed


@given(objects, st.data())
def test_a_pack_that_is_cut_off_gives_the_first_objects_and_an_error(listed, data):
    whole = format_pack(listed)
    end = data.draw(st.integers(0, len(whole) - 1))
    reader = PackReader(announced(whole, len(listed)))

    found = reader.feed(whole[:end])
    assert found == listed[: len(found)]
    assert len(found) < len(listed)
    with pytest.raises(ObjectFormatError, match="cut off"):
        reader.finish()


@given(objects, st.data())
def test_one_changed_byte_gives_an_error_or_only_objects_that_have_their_digest(listed, data):
    whole = bytearray(format_pack(listed))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    step = data.draw(st.integers(1, len(whole)))
    reader = PackReader(announced(whole, len(listed)))
    found = []
    try:
        for at in range(0, len(whole), step):
            found += reader.feed(whole[at : at + step])
        reader.finish()
    except (FormatError, DigestMismatchError):
        pass
    for one, stored in found:
        assert one.digest.algorithm.digest(stored) == one.digest


@given(st.binary(max_size=400), st.integers(1, 3), st.integers(1, 400))
def test_any_bytes_are_a_pack_or_our_error(data, count, size):
    reader = PackReader(Pack(Algorithm.SHA1.digest(data), size, count))
    for payload in (data, GOLDEN[:12] + data):
        try:
            reader.feed(payload)
            reader.finish()
        except (FormatError, DigestMismatchError):
            pass


def test_an_object_with_another_digest_ends_the_pack():
    good, other = packed(b"good"), packed(b"other")
    whole = format_pack([good, (good[0], b"evil"), other])
    reader = PackReader(announced(whole, 3))

    first = head_bytes(3) + 4
    assert reader.feed(whole[:first]) == [good]
    with pytest.raises(DigestMismatchError):
        reader.feed(whole[first:])


def test_a_pack_other_than_the_announced_one_is_refused_by_its_head():
    whole = format_pack([packed(b"one"), packed(b"two")])
    for size, count in ((len(whole), 1), (len(whole) + 1, 2), (len(whole) - 1, 2)):
        reader = PackReader(Pack(Algorithm.SHA1.digest(whole), size, count))
        with pytest.raises(ObjectFormatError, match="announced"):
            reader.feed(whole[: head_bytes(2)])


def test_bytes_after_the_last_object_are_refused():
    whole = format_pack([packed(b"one")])
    reader = PackReader(announced(whole, 1))
    reader.feed(whole)
    with pytest.raises(ObjectFormatError, match="follow"):
        reader.feed(b"x")


def test_a_head_that_promises_too_much_is_refused_at_once():
    for count in (0, MAX_OBJECTS + 1, 0xFFFFFFFF):
        with pytest.raises(ObjectFormatError):
            parse_pack_head(b"CVMPACK1" + count.to_bytes(4, "little"))
    row = GOLDEN[12:44]
    for place, value in ((23, 1), (20, 7), (21, 9), (22, ord("H")), (22, ord("K")), (27, 0x7F)):
        lie = row[:place] + bytes([value]) + row[place + 1 :]
        with pytest.raises(ObjectFormatError):
            parse_pack_head(b"CVMPACK1" + (1).to_bytes(4, "little") + lie)


def test_a_reader_keeps_no_more_than_one_object():
    stored = bytes(1 << 20)
    whole = format_pack([packed(stored[:-1]), packed(stored)] * 4)
    reader = PackReader(announced(whole, 8))
    for at in range(0, len(whole), 1 << 16):
        reader.feed(whole[at : at + (1 << 16)])
        assert len(reader._waiting) <= 1 << 20
    reader.finish()


def test_what_no_pack_may_hold_is_not_packed():
    with pytest.raises(ObjectFormatError):
        packed(b"", kind=ObjectKind.HISTORY)
    with pytest.raises(ObjectFormatError):
        packed(bytes(MAX_OBJECT_BYTES + 1))
    with pytest.raises(InvalidInputError):
        format_pack([])
    with pytest.raises(InvalidInputError):
        format_pack([packed(bytes(MAX_OBJECT_BYTES))] * 5)
