"""One member of an archive: a path, what it is, and its content while the archive stands there."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.entry import MAX_NAME_BYTES, NO_XATTRS

_MAX_ID = (1 << 32) - 1
_MAX_TARGET_BYTES = 4095
_MAX_TIME_NS = (1 << 62) * 10**9


@dataclass(frozen=True, slots=True)
class Data:
    """A member's content.

    Shape: `offset` is where all of it lies in the archive's own file, None where it has to be read; `read`, as a
    file's, gives the next of it, until the reader of the archive goes on to the next member.
    """

    size: int
    read: Callable[[int], bytes]
    offset: int | None = None

    def content(self) -> bytes:
        """All of it; for what fits into memory."""
        parts = []
        left = self.size
        while left > 0 and (part := self.read(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


NO_DATA = Data(0, lambda _size: b"", 0)


@dataclass(slots=True)
class Member:
    """What an archive says of one path.

    Shape: `path` is below the archive's root, with a leading slash, empty for the root; `mode` is a whole st_mode;
    `link` is the path of the member that this one is another name of, None for all but hard links; `is_whiteout` says
    that the path is to be gone, `is_opaque` that nothing of a layer below is to show in this directory.
    """

    path: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    target: bytes = b""
    device: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=lambda: NO_XATTRS)
    data: Data = NO_DATA
    link: bytes | None = None
    is_whiteout: bool = False
    is_opaque: bool = False

    def checked(self) -> Member:
        """The member itself, if a repository can hold it; `InvalidInputError` naming it otherwise."""
        if not (0 <= self.uid <= _MAX_ID and 0 <= self.gid <= _MAX_ID):
            raise wrong_member(self.path, f"has the owner {self.uid}:{self.gid}")
        if abs(self.mtime_ns) > _MAX_TIME_NS:
            raise wrong_member(self.path, "has a time that no clock shows")
        if stat.S_ISLNK(self.mode) and (
            not self.target or b"\0" in self.target or len(self.target) > _MAX_TARGET_BYTES
        ):
            raise wrong_member(self.path, "is a symbolic link that cannot be")
        if not self.path and not stat.S_ISDIR(self.mode):
            raise wrong_member(self.path, "is no directory, and has no name")
        return self


def made_file(path: str, data: bytes, *, mode: int = 0o644, mtime_ns: int = 0) -> Member:
    """A file that no archive holds, but that belongs to what it holds; `path` has no slash ahead."""
    return Member(
        b"/" + os.fsencode(path),
        stat.S_IFREG | mode,
        uid=os.geteuid(),
        gid=os.getegid(),
        mtime_ns=mtime_ns,
        data=Data(len(data), io.BytesIO(data).read),
    )


def clean_path(name: bytes, *, strip: int = 0) -> bytes | None:
    """A member's path by the name in the archive, without `strip` components; None where nothing is left of it.

    Shape: as tar does, an absolute name is taken below the archive's root. Errors: `InvalidInputError` for one that
    leads out of it, or that no directory can hold.
    """
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise wrong_member(name, "leads out of the archive")
    if b"\0" in name or any(len(part) > MAX_NAME_BYTES for part in parts):
        raise wrong_member(name, "has a name that no directory can hold")
    if strip and len(parts) <= strip:
        return None
    return b"".join(b"/" + part for part in parts[strip:])


def wrong_member(name: bytes, reason: str, advice: str = "") -> InvalidInputError:
    """The error for a member that cannot be published."""
    shown = os.fsdecode(name.lstrip(b"/")[:200]) or "."
    return InvalidInputError(f"the archive's member {shown!r} {reason}", advice=advice)
