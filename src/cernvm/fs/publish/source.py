"""The tree that is published, as the operating system shows it: paths, attributes, extended attributes.

Nothing is followed: a symbolic link is itself, and a folder is looked into only while it is the one that was found, so
that nobody who may write to the tree can lead its publisher elsewhere. Names are raw bytes.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cernvm.core.errors import CvmError, DeniedError, InvalidInputError, NotFoundError
from cernvm.core.log import fields
from cernvm.fs.format import xattrs
from cernvm.fs.format.entry import NO_XATTRS

log = logging.getLogger(__name__)

# what belongs to the machine that publishes, not to the release
_LEFT_OUT = (b"trusted.", b"security.selinux", b"security.ima", b"security.evm", b"system.")


@dataclass(frozen=True, slots=True)
class Found:
    """One path of the source tree.

    Shape: `path` is relative to the tree, with a leading slash, empty for the tree itself; `place` is where to open it.
    """

    path: bytes
    place: bytes
    status: os.stat_result
    target: bytes = b""
    xattrs: Mapping[bytes, bytes] = field(default_factory=lambda: NO_XATTRS)

    @property
    def is_directory(self) -> bool:
        """Whether it has a listing."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it has content."""
        return stat.S_ISREG(self.status.st_mode)


def walk(tree: Path) -> Iterator[Found]:
    """All paths of the tree, the tree itself first, a directory before what it holds, names in byte order.

    Errors: `NotFoundError`, `InvalidInputError` for a tree that is no folder or changes meanwhile, `DeniedError`.
    """
    top = os.fsencode(tree)
    try:
        root = _look(b"", top, top)
    except NotFoundError:
        raise NotFoundError("folder", str(tree)) from None
    if not root.is_directory:
        raise InvalidInputError(f"{tree} is no folder", advice="publish a folder")
    waiting = [root]
    while waiting:
        found = waiting.pop()
        yield found
        if found.is_directory:
            waiting += _below(found)


def changed(place: bytes) -> InvalidInputError:
    """The error for a source path that is not what it was a moment ago."""
    return InvalidInputError(
        f"{os.fsdecode(place)!r} changed while it was published",
        advice="publish again when nothing writes to the tree",
    )


def _below(folder: Found) -> list[Found]:
    """What a folder holds, the last name first."""
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(folder.place, flags)
    except OSError as exc:
        raise translate(exc, folder.place) from exc
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != (folder.status.st_dev, folder.status.st_ino):
            raise changed(folder.place)
        names = sorted(map(os.fsencode, os.listdir(descriptor)), reverse=True)  # noqa: PTH208
        # by way of the descriptor, whatever stands at the folder's path by now
        way = b"/proc/self/fd/%d/" % descriptor
        return [_look(folder.path + b"/" + n, folder.place + b"/" + n, way + n) for n in names]
    except OSError as exc:
        raise translate(exc, folder.place) from exc
    finally:
        os.close(descriptor)


def _look(path: bytes, place: bytes, way: bytes) -> Found:
    try:
        status = os.lstat(way)
        is_link = stat.S_ISLNK(status.st_mode)
        target = os.readlink(way) if is_link else b""  # noqa: PTH115
        return Found(path, place, status, target, _xattrs(way, place))
    except OSError as exc:
        raise translate(exc, place) from exc


def _xattrs(way: bytes, place: bytes) -> Mapping[bytes, bytes]:
    try:
        names = os.listxattr(way, follow_symlinks=False)
    except OSError as exc:
        if exc.errno in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
            return NO_XATTRS
        raise
    found: dict[bytes, bytes] = {}
    for name in names:
        key = os.fsencode(name)
        if key.startswith(_LEFT_OUT):
            continue
        value = os.getxattr(way, name, follow_symlinks=False)
        if xattrs.fits(key, value) and len(found) < xattrs.MAX_BYTES:
            found[key] = value
        else:
            shown = os.fsdecode(place)
            log.warning("xattr.left_out", extra=fields(path=shown, name=name, bytes=len(value)))
    return found or NO_XATTRS


def translate(error: OSError, place: bytes) -> CvmError:
    """What an error of the operating system on a source path means."""
    shown = repr(os.fsdecode(place))
    if error.errno == errno.ENOENT:
        return NotFoundError("file", os.fsdecode(place))
    if error.errno in (errno.EACCES, errno.EPERM):
        return DeniedError(f"{shown} may not be read", advice="publish as the owner of the tree")
    return InvalidInputError(f"{shown} cannot be published: {error.strerror or error}")
