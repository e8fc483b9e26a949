"""The kernel's messages byte by byte; the golden bytes are written out by hand from the kernel's header."""

import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import ConfigError
from cernvm.fs.fuse.memory import MemoryAttributes
from cernvm.fs.fuse.mountinfo import parse_mountinfo
from cernvm.fs.fuse.negotiate import agree
from cernvm.fs.fuse.protocol import (
    InitFlag,
    InitRequest,
    Notice,
    format_notice,
    format_refusal,
    pack_absence,
    pack_attributes,
    pack_directory_entry,
    pack_entry,
    pack_init,
    parse_batch_forget,
    parse_init,
    parse_read,
    parse_request,
    parse_xattr,
)
from cernvm.fs.fuse.settings import KernelSettings
from cernvm.fs.fuse.values import Validity

LOOKUP_OF_ABC = bytes.fromhex(
    "2c000000"  # length 44
    "01000000"  # LOOKUP
    "0700000000000000"  # number 7
    "0100000000000000"  # in the root
    "e8030000"  # uid 1000
    "64000000"  # gid 100
    "d2040000"  # thread 1234
    "00000000"
    "61626300"  # "abc"
)


def test_a_request_is_read_from_its_bytes():
    request = parse_request(LOOKUP_OF_ABC)

    assert (request.opcode, request.number, request.inode) == (1, 7, 1)
    assert (request.uid, request.gid, request.pid) == (1000, 100, 1234)
    assert request.body == b"abc\0"


@given(st.binary(max_size=100))
def test_a_message_that_is_not_as_long_as_it_says_is_refused(message):
    if len(message) >= 40 and struct.unpack_from("=I", message)[0] == len(message):
        return
    with pytest.raises(ValueError):
        parse_request(message)


def test_an_entry_has_the_kernels_layout():
    found = MemoryAttributes(5, stat.S_IFREG | 0o644, 1000, 1, 10, 20, 0, -1_500_000_000)

    packed = pack_entry(found, Validity(1.5, 2, 0))

    assert packed == bytes.fromhex(
        "0500000000000000" "0000000000000000"  # inode, generation
        "0100000000000000" "0200000000000000"  # valid for 1 s, 2 s
        "0065cd1d" "00000000"  # and 500,000,000 ns, 0 ns
        "0500000000000000" "e803000000000000" "0200000000000000"  # inode, size, sectors
        "feffffffffffffff" "feffffffffffffff" "feffffffffffffff"  # -2 s
        "0065cd1d" "0065cd1d" "0065cd1d"  # + 500,000,000 ns
        "a4810000" "01000000" "0a000000" "14000000"  # mode, links, uid, gid
        "00000000" "00100000" "00000000"  # device, block size, flags
    )  # fmt: skip


def test_an_absent_name_is_an_entry_without_inode_that_may_be_remembered():
    packed = pack_absence(Validity(0, 0, 60))

    assert len(packed) == 128
    assert struct.unpack_from("=QQQ", packed) == (0, 0, 60)


def test_attributes_come_after_their_validity():
    packed = pack_attributes(MemoryAttributes(9, stat.S_IFDIR, 0, 2, 0, 0, 0, 0), Validity(0, 3, 0))

    assert len(packed) == 104
    assert struct.unpack_from("=QIIQ", packed) == (3, 0, 0, 9)


@given(st.binary(min_size=1, max_size=255))
def test_a_directory_record_is_padded_to_eight_bytes(name):
    packed = pack_directory_entry(3, name, stat.S_IFDIR | 0o755, 11)

    assert len(packed) % 8 == 0
    assert struct.unpack_from("=QQII", packed) == (3, 11, len(name), stat.S_IFDIR >> 12)
    assert packed[24:].rstrip(b"\0") == name.rstrip(b"\0")


def test_refusals_and_notices_use_the_heads_middle_word():
    assert format_refusal(7, 5) == bytes.fromhex("10000000" "fbffffff" "0700000000000000")  # fmt: skip
    assert format_notice(Notice.INC_EPOCH) == bytes.fromhex("10000000" "08000000" + "00" * 8)  # fmt: skip


def test_bodies_are_read_as_the_kernel_lays_them_out():
    assert parse_read(struct.pack("=QQIIQII", 1, 4096, 512, 0, 0, 0, 0)) == (4096, 512)
    assert parse_xattr(struct.pack("=II", 64, 0) + b"user.x\0") == (64, b"user.x")
    assert list(parse_batch_forget(struct.pack("=II4Q", 2, 0, 5, 1, 6, 2))) == [(5, 1), (6, 2)]


def test_the_second_word_of_flags_counts_only_when_announced():
    offered = struct.pack("=5I", 7, 44, 131072, InitFlag.INIT_EXT | 1, 1 << 5)
    old = struct.pack("=5I", 7, 31, 131072, 1, 1 << 5)

    assert parse_init(offered).flags == InitFlag.INIT_EXT | 1 | 1 << 37
    assert parse_init(old).flags == 1


def test_only_what_the_kernel_offers_is_agreed():
    offered = InitFlag.NO_OPEN_SUPPORT | InitFlag.MAX_PAGES | 1 << 37

    agreed = agree(InitRequest(7, 45, 131072, offered), KernelSettings(opening="no-open"))

    assert agreed.flags == InitFlag.NO_OPEN_SUPPORT | InitFlag.MAX_PAGES
    assert agreed.max_readahead_bytes == 131072
    assert len(pack_init(agreed)) == 64


def test_passing_reads_through_and_not_opening_at_all_exclude_each_other():
    offered = InitFlag.NO_OPEN_SUPPORT | InitFlag.PASSTHROUGH

    agreed = agree(InitRequest(7, 45, 0, offered), KernelSettings(opening="passthrough"))

    assert (agreed.flags, agreed.max_stack_depth) == (InitFlag.PASSTHROUGH, 1)


def test_a_way_of_opening_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="keep-cache"):
        KernelSettings(opening="keep")


def test_a_kernel_older_than_the_protocol_we_know_is_refused():
    with pytest.raises(ValueError, match=r"7\.22"):
        agree(InitRequest(7, 22, 0, 0), KernelSettings())


def test_mount_tables_are_read_with_their_escapes_and_optional_fields():
    table = (
        b"22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        b"99 22 0:55 /sub /mnt/a\\040b ro,nosuid - fuse.cernvm sft.cernvm.test ro\n"
    )

    root, ours = parse_mountinfo(table)

    assert (str(root.point), root.kind) == ("/", "ext4")
    assert (str(ours.point), str(ours.root)) == ("/mnt/a b", "/sub")
    assert (ours.kind, ours.source, ours.device) == ("fuse.cernvm", "sft.cernvm.test", "0:55")
