"""What a catalog says of a path of the source tree."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import (
    DIRECTORY_SIZE_BYTES,
    Entry,
    EntryFlag,
    EntryKind,
    kind_of_mode,
)
from cernvm.fs.publish.content import Content
from cernvm.fs.publish.settings import Settings
from cernvm.fs.publish.source import Found

NO_CONTENT = Content(0, None)

_EXTERNAL = int(EntryFlag.EXTERNAL)  # plain numbers: this is done for every path
_CHUNKED = int(EntryFlag.CHUNKED)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns every published path, whatever the source says: needed for trees that were made in a user namespace."""

    uid: int
    gid: int


def entry_of(
    found: Found,
    *,
    name: bytes,
    content: Content,
    xattrs: Mapping[bytes, bytes],
    owner: Owner | None,
    settings: Settings,
    compression: Compression,
) -> Entry:
    """What a catalog says of a source path whose content, if it is a file, was stored with this compression."""
    status = found.status
    kind = kind_of_mode(status.st_mode)
    if kind is None:
        shown = os.fsdecode(found.place)
        raise InvalidInputError(f"{shown!r} is of a kind that no repository holds")
    seconds, part_ns = divmod(status.st_mtime_ns, 10**9)
    is_file = kind is EntryKind.FILE
    flags = int(kind.value)
    if is_file and settings.external:
        flags |= _EXTERNAL
    if content.chunks:
        flags |= _CHUNKED
    return Entry(
        name=name,
        mode=status.st_mode,
        size=_size(found, kind),
        mtime_s=seconds,
        mtime_ns=part_ns if settings.mtime_ns else None,
        uid=status.st_uid if owner is None else owner.uid,
        gid=status.st_gid if owner is None else owner.gid,
        flags=flags,
        digest=content.digest,
        compression=compression if is_file else Compression.ZLIB,
        symlink=found.target,
        xattrs=xattrs,
    )


def _size(found: Found, kind: EntryKind) -> int:
    if kind is EntryKind.DIRECTORY:
        return DIRECTORY_SIZE_BYTES
    if kind is EntryKind.SYMLINK:
        return len(found.target)
    if kind is EntryKind.SPECIAL:
        mode = found.status.st_mode
        return found.status.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0
    return found.status.st_size
