"""The tree that is published, as the operating system shows it: paths, attributes, extended attributes.

Nothing is followed: a symbolic link is itself, and a folder is looked into only while it is the one that was found, so
that nobody who may write to the tree can lead its publisher elsewhere. Names are raw bytes.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cernvm.core.errors import ChangedError, CvmError, DeniedError, InvalidInputError, NotFoundError
from cernvm.core.log import fields
from cernvm.fs.format import xattrs
from cernvm.fs.format.entry import NO_XATTRS

log = logging.getLogger(__name__)

_ASIDE = "publish a folder beside it"
_PATH_BYTES = 4000  # the kernel takes a path of 4096
# what belongs to the machine that publishes, not to the release
LEFT_OUT = (b"trusted.", b"security.selinux", b"security.ima", b"security.evm", b"system.")


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
    def name(self) -> bytes:
        """The last part of its path."""
        return self.path.rpartition(b"/")[2]

    @property
    def is_directory(self) -> bool:
        """Whether it has a listing."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it has content."""
        return stat.S_ISREG(self.status.st_mode)


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory and what it holds, names in byte order; of use until the walk goes on.

    Shape: `found` has its extended attributes; `children` have none yet: `attributes_of` reads them.
    """

    found: Found
    children: Sequence[Found]
    way: bytes

    def attributes_of(self, child: Found) -> Mapping[bytes, bytes]:
        """The extended attributes of one of the children."""
        if stat.S_ISLNK(child.status.st_mode):
            return NO_XATTRS  # Linux lets nobody give a link any that would be published
        try:
            return _xattrs(self.way + child.name, child.place)
        except OSError as exc:
            raise translate(exc, child.place) from exc


def walk(tree: Path) -> Iterator[Found]:
    """All paths of the tree with their extended attributes, the tree itself first, what a directory holds after it."""
    for folder in walk_folders(tree):
        if not folder.found.path:
            yield folder.found
        for child in folder.children:
            yield replace(child, xattrs=folder.attributes_of(child))


def walk_folders(tree: Path, *, apart: Container[tuple[int, int]] = ()) -> Iterator[Folder]:
    """All directories of the tree, the tree itself first, a directory before those in it, names in byte order.

    Shape: `apart` are devices and inodes that must not be in the tree: the store, which would grow while it is read,
    and keys. Errors: `NotFoundError`, `InvalidInputError` for a tree that is no folder, holds what must be apart or
    itself, or changes meanwhile, `DeniedError`.
    """
    top = os.fsencode(tree)
    try:
        status = os.lstat(top)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFoundError("folder", str(tree)) from None
        raise translate(exc, top) from exc
    root = Found(b"", top, status)
    if not root.is_directory:
        raise InvalidInputError(f"{tree} is no folder", advice="publish a folder")
    waiting = [(root, 0)]
    above: list[tuple[int, int]] = []  # identities of the directories on the way
    while waiting:
        found, depth = waiting.pop()
        identity = (found.status.st_dev, found.status.st_ino)
        del above[depth:]
        if identity in above:
            raise _wrong(found, "holds itself", "a loop of bind mounts cannot be published")
        above.append(identity)
        descriptor = _open_folder(found)
        try:
            folder = _folder(found, descriptor, apart)
            below = [(child, depth + 1) for child in folder.children if child.is_directory]
            yield folder
        finally:
            os.close(descriptor)
        waiting += reversed(below)


def open_place(place: bytes, flags: int) -> int:
    """A descriptor of a source path, however long it is."""
    if len(place) < _PATH_BYTES:
        return os.open(place, flags)
    names = place.split(b"/")
    descriptor = os.open(b"/" if not names[0] else b".", os.O_PATH | os.O_CLOEXEC)
    while names:
        part, size = [names.pop(0)], 0
        while names and (size := size + len(names[0]) + 1) < _PATH_BYTES:
            part.append(names.pop(0))
        way = b"/".join(part).lstrip(b"/") or b"."
        steps = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC if names else flags
        try:
            following = os.open(way, steps, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = following
    return descriptor


def read_small(found: Found, limit_bytes: int) -> bytes:
    """The content of a file that the walk found; `InvalidInputError` for one that is too large or another by now."""
    try:
        descriptor = open_place(found.place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            data = file.read(limit_bytes + 1)
    except OSError as exc:
        raise translate(exc, found.place) from exc
    if (status.st_dev, status.st_ino) != (found.status.st_dev, found.status.st_ino):
        raise changed(found.place)
    if len(data) > limit_bytes:
        raise _wrong(found, f"is larger than {limit_bytes} bytes", "shorten it")
    return data


def changed(place: bytes) -> ChangedError:
    """The error for a source path that is not what it was a moment ago."""
    return ChangedError(
        f"{os.fsdecode(place)!r} changed while it was published",
        advice="publish again when nothing writes to the tree",
    )


def _open_folder(found: Found) -> int:
    """A descriptor of a directory that the walk found, if it still is that one."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = open_place(found.place, flags)
        status = os.fstat(descriptor)
    except OSError as exc:
        if exc.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENOENT):
            raise changed(found.place) from exc
        raise translate(exc, found.place) from exc
    if (status.st_dev, status.st_ino) != (found.status.st_dev, found.status.st_ino):
        os.close(descriptor)
        raise changed(found.place)
    return descriptor


def _folder(found: Found, descriptor: int, apart: Container[tuple[int, int]]) -> Folder:
    # by way of the descriptor, whatever stands at the folder's path by now
    way = b"/proc/self/fd/%d/" % descriptor
    place = found.place
    try:
        names = sorted(os.listdir(way))  # noqa: PTH208  # as bytes
        children = []
        for name in names:
            place = found.place + b"/" + name
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            target = b""
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink(name, dir_fd=descriptor)
            child = Found(found.path + b"/" + name, place, status, target)
            if (status.st_dev, status.st_ino) in apart:
                raise _wrong(child, "is the repository's own storage or key", _ASIDE)
            children.append(child)
        place = found.place
        return Folder(replace(found, xattrs=_xattrs(way + b".", place)), children, way)
    except OSError as exc:
        if exc.errno == errno.ENOENT:
            raise changed(place) from exc
        raise translate(exc, place) from exc


def _wrong(found: Found, what: str, advice: str) -> InvalidInputError:
    return InvalidInputError(f"{os.fsdecode(found.place)!r} {what}", advice=advice)


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
        if key.startswith(LEFT_OUT):
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
