"""Packs from anybody, careless catalogs: what comes out is what was asked for, or an error, and either is cheap."""

import struct
import time
import tracemalloc
import zlib

import pytest

from cernvm.core.digest import Algorithm
from cernvm.core.errors import CatalogFormatError, DigestMismatchError, FormatError
from cernvm.fs.cache import ContentKey
from cernvm.fs.format.compress import Compression, inflate
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.pack import (
    MAX_OBJECT_BYTES,
    MAX_OBJECTS,
    Pack,
    PackedObject,
    PackReader,
    format_pack,
    head_bytes,
)
from cernvm.fs.format.pack_table import MAX_PACKS, parse_pack_table, parse_profile_rows
from cernvm.fs.format.profile import MAX_PROFILE_BYTES, parse_profile

SHA1 = Algorithm.SHA1


def packed(stored, **changes):
    values = {
        "digest": SHA1.digest(stored),
        "kind": ObjectKind.PLAIN,
        "compression": Compression.ZLIB,
        "stored_bytes": len(stored),
        "content_bytes": 4 * len(stored),
    }
    return PackedObject(**(values | changes)), stored


def read_all(data, pack, step=1 << 16):
    reader = PackReader(pack)
    for at in range(0, len(data), step):
        yield from reader.feed(data[at : at + step])
    reader.finish()


def announced(data, count):
    return Pack(SHA1.digest(data), len(data), count)


def test_content_under_the_digest_of_another_object_does_not_come_out():
    good, evil = packed(b"good one"), packed(b"evil one")
    swapped = format_pack([(good[0], evil[1]), (evil[0], good[1])])

    with pytest.raises(DigestMismatchError):
        list(read_all(swapped, announced(swapped, 2)))


def test_an_object_shifted_by_a_wrong_length_does_not_come_out():
    first, second = packed(b"first object"), packed(b"second")
    whole = bytearray(format_pack([first, second]))
    struct.pack_into("<I", whole, 12 + 24, 11)
    struct.pack_into("<I", whole, 12 + 32 + 24, 7)

    with pytest.raises(DigestMismatchError):
        list(read_all(bytes(whole), announced(whole, 2)))


def test_another_pack_of_the_repository_in_the_place_of_the_announced_one_is_refused():
    announced_one = format_pack([packed(b"what was asked for, at some length")])
    other = format_pack([packed(b"an older version")])

    with pytest.raises(FormatError, match="announced"):
        list(read_all(other, announced(announced_one, 1)))


def test_a_pack_without_end_costs_no_more_memory_than_one_object():
    pack = Pack(SHA1.digest(b""), 16 << 20, MAX_OBJECTS)
    without_end = b"CVMPACK1" + MAX_OBJECTS.to_bytes(4, "little") + bytes(64 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            list(read_all(without_end, pack))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * head_bytes(MAX_OBJECTS)


def test_an_object_larger_than_any_is_refused_by_its_head():
    one, _ = packed(b"x")
    head = bytearray(format_pack([(one, b"x")])[: head_bytes(1)])
    struct.pack_into("<I", head, 12 + 24, MAX_OBJECT_BYTES + 1)

    with pytest.raises(FormatError, match="too large"):
        PackReader(Pack(SHA1.digest(b""), 16 << 20, 1)).feed(head)


def test_a_bomb_in_a_pack_is_inflated_no_further_than_its_row_allows():
    bomb = zlib.compress(bytes(100 << 20))
    one = packed(bomb, content_bytes=MAX_OBJECT_BYTES)
    whole = format_pack([one])
    ((row, stored),) = read_all(whole, announced(whole, 1))

    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="larger"):
            inflate(stored, limit_bytes=row.content_bytes)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MAX_OBJECT_BYTES


def test_a_lie_about_the_compression_is_kept_under_a_key_that_nobody_asks_for():
    stored = zlib.compress(b"content")
    lie, _ = packed(stored, compression=Compression.NONE)

    assert ContentKey(lie.digest, lie.compression) != ContentKey(lie.digest, Compression.ZLIB)
    assert ContentKey(lie.digest, lie.compression).name != ContentKey(lie.digest).name


def test_roots_of_trust_cannot_be_brought_in_by_a_pack():
    for letter in b"HXMKF":
        whole = bytearray(format_pack([packed(b"x")]))
        whole[12 + 21] = letter
        with pytest.raises(FormatError):
            list(read_all(bytes(whole), announced(whole, 1)))


def test_a_head_of_many_empty_objects_ends_quickly():
    empty = packed(b"")
    whole = format_pack([empty] * MAX_OBJECTS)
    started = time.monotonic()
    assert len(list(read_all(whole, announced(whole, MAX_OBJECTS)))) == MAX_OBJECTS
    assert time.monotonic() - started < 10


def test_a_table_of_packs_cannot_grow_or_overlap_or_leave_the_repository():
    digest = str(SHA1.digest(b""))
    with pytest.raises(CatalogFormatError):
        parse_pack_table(
            [(b"/f%d" % at, b"/f%d" % at, digest, 1, 1) for at in range(MAX_PACKS + 1)]
        )
    for first, last, name in (
        (b"relative", b"/z", digest),
        (b"/a", b"/a", "../../../etc/passwd"),
        (b"/a", b"/a", digest + "K"),
        (b"/a", b"/a", digest.upper()),
    ):
        with pytest.raises(CatalogFormatError):
            parse_pack_table([(first, last, name, 100, 1)])


def test_a_profile_cannot_name_itself_something_else_or_lead_out_of_the_repository():
    digest = str(SHA1.digest(b""))
    with pytest.raises(CatalogFormatError):
        parse_profile_rows([("../label", digest)])
    text = f"CVMPROFILE1\nlabel a\ntrigger 1\naccess {digest} 0 0 5 - {{}}\n"
    assert parse_profile(text.format("/a/b").encode(), label="a").first_paths == (b"/a/b",)
    for path in ("/a/../../etc/passwd", "/.", "//a", "/a/%00", "/a/%2e%2e", "a", "/a%2Fb", ""):
        with pytest.raises(FormatError):
            parse_profile(text.format(path).encode(), label="a")
    with pytest.raises(FormatError, match="another label"):
        parse_profile(text.format("/a/b").encode(), label="b")


def test_a_profile_that_inflates_without_end_is_refused_by_its_limit():
    bomb = zlib.compress(b"access\n" * (20 << 20))
    with pytest.raises(FormatError, match="larger"):
        inflate(bomb, limit_bytes=MAX_PROFILE_BYTES)


def test_a_profile_of_the_largest_size_is_taken_apart_quickly():
    digest = str(SHA1.digest(b""))
    head = f"CVMPROFILE1\nlabel a\ntrigger 1\npack {digest} 100 1\n"
    for line in (f"access {digest} 0 0 5 0 /{'%FF' * 50}\n", f"pack {digest} 100 1\n", "\n"):
        text = (head + line * ((MAX_PROFILE_BYTES - len(head)) // len(line))).encode()
        started = time.monotonic()
        with pytest.raises(FormatError):
            parse_profile(text, label="a")
        assert time.monotonic() - started < 10
