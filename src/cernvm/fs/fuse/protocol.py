"""The words of the kernel's FUSE protocol, 7.23 to 7.44, as a read-only file system uses them: bytes and values.

One message is one `read` or one `write` on /dev/fuse. A request is a 40-byte head and a body by its opcode; an answer
is a 16-byte head (length, -errno, the request's number) and a body. Integers have the machine's order.
Source: include/uapi/linux/fuse.h of the kernel; docs of fuse(4).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

from cernvm.fs.fuse.values import Attributes, Space, Validity

MAJOR = 7
MINOR = 44  # the newest whose messages we know; the kernel speaks the lower of both
OLDEST_MINOR = 23  # Linux 3.15: answers to INIT have had 64 bytes since
ROOT_INODE = 1

REQUEST_HEAD = struct.Struct("=IIQQIIIHH")
ANSWER_HEAD = struct.Struct("=IiQ")

_ENTRY = struct.Struct("=QQQQII" + "6Q10I")  # its own words, then those of the attributes
_ENTRY_HEAD = 40
_ATTRIBUTES_HEAD = struct.Struct("=QII")
_DIRECTORY_ENTRY = struct.Struct("=QQII")
_INIT_REQUEST = struct.Struct("=4I")
_INIT_ANSWER = struct.Struct("=IIIIHHIIHHIIH22x")
_OPEN_ANSWER = struct.Struct("=QIi")
_READ_REQUEST = struct.Struct("=QQI")
_STATFS_ANSWER = struct.Struct("=5Q4I24x")
_FORGET_ONE = struct.Struct("=QQ")
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_SIZE_ANSWER = struct.Struct("=II")

RESENT_BIT = 1 << 63  # in the number of a request that the kernel sends again

_BLOCK_BYTES = 4096
_SECTOR_BYTES = 512
_U64_MASK = 0xFFFF_FFFF_FFFF_FFFF  # the kernel reads seconds as signed: times before 1970
_NS_PER_S = 1_000_000_000
_FILE_TYPE_SHIFT = 12


class Opcode(enum.IntEnum):
    """What a request asks for; those that change a file system never reach a read-only mount."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    GETXATTR = 22
    LISTXATTR = 23
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    READDIRPLUS = 44


class InitFlag(enum.IntFlag):
    """Abilities that kernel and server agree on in INIT; the upper 32 bits travel in a word of their own."""

    ASYNC_READ = 1 << 0
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    INIT_EXT = 1 << 30
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    HAS_RESEND = 1 << 39


class OpenFlag(enum.IntFlag):
    """What an answer to OPEN or OPENDIR allows the kernel to do."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    CACHE_DIR = 1 << 3
    NOFLUSH = 1 << 5
    PASSTHROUGH = 1 << 7


class Notice(enum.IntEnum):
    """What a server may tell the kernel unasked; travels in the place of an answer's errno."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3
    RESEND = 7
    INC_EPOCH = 8


class Request(NamedTuple):
    """One message of the kernel; `pid` is the thread that asks, 0 when it lives outside our PID namespace."""

    opcode: int
    number: int
    inode: int
    uid: int
    gid: int
    pid: int
    body: bytes


@dataclass(frozen=True, slots=True)
class InitRequest:
    """The kernel's side of INIT."""

    major: int
    minor: int
    max_readahead_bytes: int
    flags: int


@dataclass(frozen=True, slots=True)
class InitAnswer:
    """Our side of INIT; `minor` and `flags` are what both sides keep to from here on."""

    minor: int
    max_readahead_bytes: int
    flags: int
    max_background: int
    congestion_threshold: int
    max_write_bytes: int
    max_pages: int
    max_stack_depth: int = 0


def parse_request(message: bytes) -> Request:
    """The request in one read of /dev/fuse. Errors: `ValueError` for a message that is not as long as it says."""
    if len(message) < REQUEST_HEAD.size:
        raise ValueError(f"a request has {len(message)} bytes")
    length, opcode, number, inode, uid, gid, pid, _, _ = REQUEST_HEAD.unpack_from(message)
    if length != len(message):
        raise ValueError(f"a request of {len(message)} bytes says it has {length}")
    return Request(opcode, number, inode, uid, gid, pid, message[REQUEST_HEAD.size :])


def format_answer(number: int, body: bytes) -> bytes:
    """A successful answer to the request `number`."""
    return ANSWER_HEAD.pack(ANSWER_HEAD.size + len(body), 0, number) + body


def format_refusal(number: int, errno_value: int) -> bytes:
    """An answer that is an error; `errno_value` is positive, as in `errno`."""
    return ANSWER_HEAD.pack(ANSWER_HEAD.size, -errno_value, number)


def format_notice(kind: Notice, body: bytes = b"") -> bytes:
    """A notice, which is an answer to nobody."""
    return ANSWER_HEAD.pack(ANSWER_HEAD.size + len(body), kind, 0) + body


def parse_init(body: bytes) -> InitRequest:
    """The body of INIT, whose second word of flags is there only if the first says so."""
    major, minor, readahead, flags = _INIT_REQUEST.unpack_from(body)
    if flags & InitFlag.INIT_EXT and len(body) >= _INIT_REQUEST.size + _U32.size:
        flags |= _U32.unpack_from(body, _INIT_REQUEST.size)[0] << 32
    return InitRequest(major, minor, readahead, flags)


def pack_init(answer: InitAnswer) -> bytes:
    """The body of the answer to INIT."""
    return _INIT_ANSWER.pack(
        MAJOR,
        answer.minor,
        answer.max_readahead_bytes,
        answer.flags & 0xFFFF_FFFF,
        answer.max_background,
        answer.congestion_threshold,
        answer.max_write_bytes,
        1,  # time_gran: times are exact to one nanosecond
        answer.max_pages,
        0,
        answer.flags >> 32,
        answer.max_stack_depth,
        0,
    )


def parse_name(body: bytes) -> bytes:
    """The one name that is a request's body, without its final NUL."""
    return body.partition(b"\0")[0]


def parse_read(body: bytes) -> tuple[int, int]:
    """(offset, size in bytes) of READ, READDIR and READDIRPLUS."""
    _, offset, size = _READ_REQUEST.unpack_from(body)
    return offset, size


def parse_xattr(body: bytes) -> tuple[int, bytes]:
    """(size of the caller's buffer, 0 to ask for the size needed; name) of GETXATTR and LISTXATTR."""
    return _U32.unpack_from(body)[0], parse_name(body[8:])


def parse_forget(body: bytes) -> int:
    """How many look-ups the kernel takes back with FORGET."""
    count: int = _U64.unpack_from(body)[0]
    return count


def parse_batch_forget(body: bytes) -> Iterator[tuple[int, int]]:
    """(inode, look-ups taken back) for each of BATCH_FORGET."""
    (count,) = _U32.unpack_from(body)
    end = 8 + count * _FORGET_ONE.size
    yield from _FORGET_ONE.iter_unpack(body[8:end])


def parse_interrupt(body: bytes) -> int:
    """The number of the request that is to be given up."""
    number: int = _U64.unpack_from(body)[0]
    return number


def pack_entry(found: Attributes, validity: Validity) -> bytes:
    """The answer to LOOKUP: an inode and for how long its name and attributes hold."""
    entry_s, entry_ns = _seconds(validity.entry_s)
    attributes_s, attributes_ns = _seconds(validity.attributes_s)
    inode, size_bytes, mtime_ns = found.inode, found.size_bytes, found.mtime_ns
    seconds, nanoseconds = mtime_ns // _NS_PER_S & _U64_MASK, mtime_ns % _NS_PER_S
    # written out, since this answers every look-up and every name of a listing
    return _ENTRY.pack(
        inode,
        0,
        entry_s,
        attributes_s,
        entry_ns,
        attributes_ns,
        inode,
        size_bytes,
        -(-size_bytes // _SECTOR_BYTES),
        seconds,
        seconds,
        seconds,
        nanoseconds,
        nanoseconds,
        nanoseconds,
        found.mode,
        found.link_count,
        found.uid,
        found.gid,
        found.rdev,
        _BLOCK_BYTES,
        0,
    )


@cache
def pack_absence(validity: Validity) -> bytes:
    """The answer to LOOKUP of a name that does not exist, to be remembered by the kernel."""
    entry_s, entry_ns = _seconds(validity.negative_s)
    return _ENTRY.pack(0, 0, entry_s, 0, entry_ns, 0, *(0,) * 16)


def pack_attributes(found: Attributes, validity: Validity) -> bytes:
    """The answer to GETATTR."""
    seconds, nanoseconds = _seconds(validity.attributes_s)
    return (
        _ATTRIBUTES_HEAD.pack(seconds, nanoseconds, 0) + pack_entry(found, validity)[_ENTRY_HEAD:]
    )


def pack_open(handle: int, flags: int, backing: int = 0) -> bytes:
    """The answer to OPEN and OPENDIR; `backing` is the kernel's number of a passthrough's file."""
    return _OPEN_ANSWER.pack(handle, flags, backing)


def pack_directory_entry(inode: int, name: bytes, mode: int, next_offset: int) -> bytes:
    """One record of READDIR; `next_offset` is where a later request goes on after it."""
    head = _DIRECTORY_ENTRY.pack(inode, next_offset, len(name), mode >> _FILE_TYPE_SHIFT)
    return head + name + b"\0" * (-len(name) % 8)


def pack_space(space: Space) -> bytes:
    """The answer to STATFS, in blocks of 4 KiB."""
    free = space.free_bytes // _BLOCK_BYTES
    return _STATFS_ANSWER.pack(
        space.total_bytes // _BLOCK_BYTES,
        free,
        free,
        space.inodes,
        space.free_inodes,
        _BLOCK_BYTES,
        space.longest_name,
        _BLOCK_BYTES,
        0,
    )


def pack_size(size_bytes: int) -> bytes:
    """The answer to GETXATTR and LISTXATTR when the caller asked for the size only."""
    return _SIZE_ANSWER.pack(size_bytes, 0)


def pack_inval_inode(inode: int, offset: int, length: int) -> bytes:
    """The body of INVAL_INODE; `offset` below 0 drops the attributes only, `length` 0 means to the end."""
    return struct.pack("=Qqq", inode, offset, length)


def pack_inval_entry(parent: int, name: bytes, *, expire_only: bool = False) -> bytes:
    """The body of INVAL_ENTRY; an entry that only expires keeps its inode and its pages (Linux 6.2, else ignored)."""
    return struct.pack("=QII", parent, len(name), int(expire_only)) + name + b"\0"


@lru_cache(maxsize=16)
def _seconds(period_s: float) -> tuple[int, int]:
    whole = int(period_s)
    return whole, int((period_s - whole) * _NS_PER_S)
