"""One path of a repository as a catalog describes it: the value that reader, vfs and publisher share.

Source: docs/formats/repository.md, "Entries".
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntFlag
from types import MappingProxyType

from cernvm.core.digest import Digest
from cernvm.core.errors import CatalogFormatError
from cernvm.fs.format.compress import Compression

MAX_NAME_BYTES = 255
DIRECTORY_SIZE_BYTES = 4096
NO_XATTRS: Mapping[bytes, bytes] = MappingProxyType({})


class EntryFlag(IntFlag):
    """The bits of a catalog's flags column; the algorithms sit in bits 8-10 and 11-13."""

    DIRECTORY = 0x1
    NESTED_MOUNTPOINT = 0x2
    FILE = 0x4
    SYMLINK = 0x8
    SPECIAL = 0x10
    NESTED_ROOT = 0x20
    CHUNKED = 0x40
    EXTERNAL = 0x80
    BIND_MOUNTPOINT = 0x4000
    HIDDEN = 0x8000
    DIRECT_IO = 0x10000


class EntryKind(Enum):
    """What stands at a path; values are the flag bits that say so."""

    DIRECTORY = EntryFlag.DIRECTORY
    FILE = EntryFlag.FILE
    SYMLINK = EntryFlag.FILE | EntryFlag.SYMLINK
    SPECIAL = EntryFlag.FILE | EntryFlag.SPECIAL


# plain numbers: an IntFlag's operators take a microsecond each, and there is an entry for every path
_DIRECTORY = int(EntryFlag.DIRECTORY)
_NESTED_MOUNTPOINT = int(EntryFlag.NESTED_MOUNTPOINT)
_NESTED_ROOT = int(EntryFlag.NESTED_ROOT)
_CHUNKED = int(EntryFlag.CHUNKED)
_EXTERNAL = int(EntryFlag.EXTERNAL)
_HIDDEN = int(EntryFlag.HIDDEN)
_DIRECT_IO = int(EntryFlag.DIRECT_IO)
_SYMLINK = int(EntryFlag.SYMLINK)
_KIND_BITS = 0x1D  # directory, file, symlink, special
_MODE_BITS = 0o177777
_MAX_DEVICE = 0xFFFF_FFFF
_KIND_OF_FLAGS = {int(kind.value): kind for kind in EntryKind}
_KIND_OF_MODE = {
    stat.S_IFDIR: EntryKind.DIRECTORY,
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFLNK: EntryKind.SYMLINK,
    stat.S_IFIFO: EntryKind.SPECIAL,
    stat.S_IFSOCK: EntryKind.SPECIAL,
    stat.S_IFCHR: EntryKind.SPECIAL,
    stat.S_IFBLK: EntryKind.SPECIAL,
}
_TYPE_BITS = 0o170000
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)
# type of the mode and kind of the flags in one number, as they may stand together
_AGREEING = frozenset(mode | int(kind.value) for mode, kind in _KIND_OF_MODE.items())


# Nobody changes an entry. Were it frozen, making one would take eight times as long, and there is one for every path.
@dataclass(slots=True)
class Entry:
    """What a catalog says of one path; a value, never changed.

    Shape: `name` is raw bytes, empty for the repository's root only; `mode` is the whole st_mode; `digest` is that of
    the stored content, None for all but regular files and for most chunked ones; `symlink` the stored target, with
    variables unexpanded; `flags` are bits of `EntryFlag`; `hardlink_group` 0 for none, unique within one catalog.
    Units: `size` is bytes of content, of a link's target, 4096 for directories, and the Linux device number for
    character and block devices; `mtime_ns` is the nanosecond part, None where the writer recorded none.
    Errors: `CatalogFormatError` for what cannot stand in a directory.
    """

    name: bytes
    mode: int
    size: int
    mtime_s: int
    uid: int
    gid: int
    flags: int
    mtime_ns: int | None = None
    digest: Digest | None = None
    compression: Compression = Compression.ZLIB
    symlink: bytes = b""
    hardlink_group: int = 0
    link_count: int = 1
    xattrs: Mapping[bytes, bytes] = field(default_factory=lambda: NO_XATTRS)

    def __post_init__(self) -> None:
        name, mode = self.name, self.mode
        if len(name) > MAX_NAME_BYTES or b"/" in name or b"\0" in name:
            raise self._wrong("no file has such a name")
        if name in (b".", b".."):
            raise self._wrong("the name is reserved")
        agreed = mode & _TYPE_BITS | self.flags & _KIND_BITS
        if agreed not in _AGREEING or mode & ~_MODE_BITS:
            raise self._wrong(f"mode {mode:o} and flags {self.flags:#x} disagree")
        if self.size < 0 or (self.mtime_ns is not None and not 0 <= self.mtime_ns < 10**9):
            raise self._wrong("size or time out of range")
        if self.flags & _SYMLINK:
            if not self.symlink or b"\0" in self.symlink:
                raise self._wrong("a symbolic link needs a target")
        elif self.is_device and self.size > _MAX_DEVICE:
            raise self._wrong("there is no such device number")

    @property
    def kind(self) -> EntryKind:
        """What stands here."""
        return _KIND_OF_FLAGS[self.flags & _KIND_BITS]

    @property
    def is_directory(self) -> bool:
        """Whether it may have children."""
        return self.flags & _DIRECTORY != 0

    @property
    def is_symlink(self) -> bool:
        """Whether it has a target in place of content."""
        return self.flags & _SYMLINK != 0

    @property
    def is_nested_mountpoint(self) -> bool:
        """Whether this row stands in a parent catalog and its contents in a nested one."""
        return self.flags & _NESTED_MOUNTPOINT != 0

    @property
    def is_nested_root(self) -> bool:
        """Whether this row is the root of a nested catalog."""
        return self.flags & _NESTED_ROOT != 0

    @property
    def is_chunked(self) -> bool:
        """Whether the content is a list of chunks."""
        return self.flags & _CHUNKED != 0

    @property
    def is_external(self) -> bool:
        """Whether the content lies outside the repository's store."""
        return self.flags & _EXTERNAL != 0

    @property
    def is_hidden(self) -> bool:
        """Whether listings leave it out; looking it up by name finds it."""
        return self.flags & _HIDDEN != 0

    @property
    def is_direct_io(self) -> bool:
        """Whether its publisher wants the kernel to keep none of its pages."""
        return self.flags & _DIRECT_IO != 0

    @property
    def is_device(self) -> bool:
        """Whether it is a character or block device, whose `size` is a device number."""
        return self.mode & _TYPE_BITS in _DEVICES

    @property
    def rdev(self) -> int:
        """The Linux device number; 0 for all but devices."""
        return self.size if self.is_device else 0

    @property
    def mtime_total_ns(self) -> int:
        """The time of change in nanoseconds since the epoch."""
        return self.mtime_s * 10**9 + (self.mtime_ns or 0)

    def _wrong(self, reason: str) -> CatalogFormatError:
        return CatalogFormatError(reason, where=f"entry {self.name[:80]!r}")


@dataclass(frozen=True, slots=True, order=True)
class Chunk:
    """One piece of a chunked file; its digest is over the stored bytes.

    Units: `offset` and `size` count bytes of content.
    """

    offset: int
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class NestedCatalog:
    """A subtree that another catalog describes.

    Shape: `path` is absolute within the repository, without a slash at its end. Units: `size_bytes` uncompressed.
    """

    path: bytes
    digest: Digest
    size_bytes: int


def kind_of_mode(mode: int) -> EntryKind | None:
    """The kind that a st_mode stands for; None for a type that the format does not know."""
    return _KIND_OF_MODE.get(stat.S_IFMT(mode))


def check_chunks(chunks: tuple[Chunk, ...], *, size: int, where: str) -> tuple[Chunk, ...]:
    """The chunks in order, if they cover `size` bytes without gap or overlap; else `CatalogFormatError`."""
    position = 0
    ordered = tuple(sorted(chunks))
    for chunk in ordered:
        if chunk.offset != position or chunk.size <= 0:
            raise CatalogFormatError(f"chunks do not join at byte {position}", where=where)
        position += chunk.size
    if position != size:
        raise CatalogFormatError(f"chunks make {position} bytes, not {size}", where=where)
    return ordered
