"""A repository's files by path: the walk that a kernel does for a mount, done here for those who have none."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from cernvm.core.clock import Deadline
from cernvm.core.errors import InvalidInputError, NotFoundError
from cernvm.fs.vfs import ROOT_INODE, Attributes, View

DEFAULT_WAIT_S = 30.0

_MAX_LINKS = 40
_DOTS = (b".", b"..")

AnyPath = str | bytes | PurePosixPath


class WrongKindError(InvalidInputError):
    """What stands at a path cannot do what was asked of it; `errno` says which way, as the kernel would."""

    def __init__(self, number: int, path: bytes) -> None:
        super().__init__(f"{_show(path)}: {os.strerror(number)}")
        self.errno = number


@dataclass(frozen=True, slots=True)
class Listed:
    """One name of a directory."""

    name: bytes
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class _Step:
    inode: int
    name: bytes
    attributes: Attributes


class Files:
    """What `view` shows, by path.

    Shape: a path is absolute within the repository, with or without the slash at its start. Links are followed as far
    as they stay inside. Units: `wait_s` is how long one look-up, listing or read may wait for the network.
    Errors: `NotFoundError`, `WrongKindError`, and what keeps content from being had, as `View` raises it.
    """

    def __init__(self, view: View, *, wait_s: float = DEFAULT_WAIT_S) -> None:
        self.view = view
        self.name = view.repository.name
        self._wait_s = wait_s

    def attributes(self, path: AnyPath, *, follow: bool = True) -> Attributes:
        """What stat shows; with `follow` of what a link leads to."""
        with self._found(path, follow=follow) as steps:
            return steps[-1].attributes

    def listing(self, path: AnyPath) -> list[Listed]:
        """The names of a directory, sorted, `.` and `..` and hidden ones left out."""
        with self._found(path, follow=True) as steps:
            inode = self._of_kind(steps, is_folder=True).inode
            deadline = self._deadline()
            names: list[Listed] = []
            offset = 0
            while batch := self.view.listing(inode, offset, deadline):
                offset = batch[-1].offset
                names += [Listed(n.name, n.attributes) for n in batch if n.name not in _DOTS]
        return sorted(names, key=lambda listed: listed.name)

    def target(self, path: AnyPath) -> bytes:
        """Where a symbolic link leads, variables filled in."""
        with self._found(path, follow=False) as steps:
            if not stat.S_ISLNK(steps[-1].attributes.mode):
                raise WrongKindError(errno.EINVAL, _inside(path))
            return self.view.readlink(steps[-1].inode)

    def resolved(self, path: AnyPath) -> bytes:
        """The path without links, `.` and `..`, with the slash at its start."""
        with self._found(path, follow=True) as steps:
            return _joined(steps)

    def xattrs(self, path: AnyPath) -> dict[bytes, bytes]:
        """The extended attributes that a listing of them shows."""
        with self._found(path, follow=True) as steps:
            inode = steps[-1].inode
            found = {name: self.view.xattr(inode, name) for name in self.view.xattr_names(inode)}
        return {name: value for name, value in found.items() if value is not None}

    def open(self, path: AnyPath) -> OpenFile:
        """A regular file's content, which stays that of now whatever revision follows; to be closed."""
        with self._found(path, follow=True) as steps:
            self._of_kind(steps, is_folder=False)
            step = steps.pop()  # its reference is the open file's
        return OpenFile(self.view, step.attributes, self._wait_s)

    @contextmanager
    def _found(self, path: AnyPath, *, follow: bool) -> Iterator[list[_Step]]:
        """The inodes from the root down to a path, each referenced until the end."""
        steps = [_Step(ROOT_INODE, b"", self.view.attributes(ROOT_INODE))]
        try:
            self._walk(steps, _inside(path), follow=follow)
            yield steps
        finally:
            self._leave(steps, 1)

    def _walk(self, steps: list[_Step], path: bytes, *, follow: bool) -> None:
        waiting = _parts(path)
        links = 0
        while waiting:
            name = waiting.pop()
            if not stat.S_ISDIR(steps[-1].attributes.mode):
                raise WrongKindError(errno.ENOTDIR, _joined(steps))
            if name == b".":
                continue
            if name == b"..":
                self._ascend(steps, path)
                continue
            attributes = self._look_up(steps[-1].inode, name)
            steps.append(_Step(attributes.inode, name, attributes))
            if stat.S_ISLNK(attributes.mode) and (follow or waiting):
                links += 1
                if links > _MAX_LINKS:
                    raise WrongKindError(errno.ELOOP, path)
                target = self.view.readlink(attributes.inode)
                self._leave(steps, len(steps) - 1)
                if target.startswith(b"/"):
                    target = self._below_us(target, path)
                    self._leave(steps, 1)
                waiting += _parts(target)

    def _ascend(self, steps: list[_Step], path: bytes) -> None:
        if len(steps) == 1:
            raise _outside(path, b"..")
        self._leave(steps, len(steps) - 1)

    def _below_us(self, target: bytes, path: bytes) -> bytes:
        """An absolute link's target as a path of this repository."""
        mounted_at = b"/cvmfs/" + self.name.encode()
        if target != mounted_at and not target.startswith(mounted_at + b"/"):
            raise _outside(path, target)
        return target[len(mounted_at) :]

    def _leave(self, steps: list[_Step], kept: int) -> None:
        for step in steps[kept:]:
            self.view.forget(step.inode, 1)
        del steps[kept:]

    def _look_up(self, parent: int, name: bytes) -> Attributes:
        found = self.view.try_lookup(parent, name)
        return found or self.view.lookup(parent, name, self._deadline())

    def _of_kind(self, steps: list[_Step], *, is_folder: bool) -> _Step:
        step = steps[-1]
        if stat.S_ISDIR(step.attributes.mode) != is_folder:
            number = errno.ENOTDIR if is_folder else errno.EISDIR
            raise WrongKindError(number, _joined(steps))
        if not is_folder and not stat.S_ISREG(step.attributes.mode):
            raise WrongKindError(errno.EINVAL, _joined(steps))
        return step

    def _deadline(self) -> Deadline:
        return Deadline.after(self._wait_s)


class OpenFile:
    """One regular file, open; holds a reference to its inode until `close`."""

    def __init__(self, view: View, attributes: Attributes, wait_s: float) -> None:
        self.attributes = attributes
        self._view = view
        self._wait_s = wait_s
        self._is_open = True

    @property
    def size_bytes(self) -> int:
        """How long the content is."""
        return self.attributes.size_bytes

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Content from `offset` on; shorter than asked for only at the end."""
        inode = self.attributes.inode
        found = self._view.try_read(inode, offset, size_bytes)
        if found is None:
            found = self._view.read(inode, offset, size_bytes, Deadline.after(self._wait_s))
        return found

    def close(self) -> None:
        """Give the inode back; again is fine."""
        if self._is_open:
            self._is_open = False
            self._view.forget(self.attributes.inode, 1)


def _inside(path: AnyPath) -> bytes:
    raw = path if isinstance(path, bytes) else os.fsencode(path)
    if b"\0" in raw:
        raise InvalidInputError(f"{_show(raw)} holds a zero byte")
    return raw


def _parts(path: bytes) -> list[bytes]:
    """The names of a path, the last one first."""
    return [part for part in reversed(path.split(b"/")) if part]


def _joined(steps: list[_Step]) -> bytes:
    return b"/" + b"/".join(step.name for step in steps[1:])


def _outside(path: bytes, target: bytes) -> NotFoundError:
    return NotFoundError(
        "file inside the repository at",
        _show(path),
        advice=f"it leads outside, to {_show(target)}: mount that, or read it with its own tools",
    )


def _show(path: bytes) -> str:
    return path[-200:].decode("utf-8", "replace")
