"""The files of a cache folder, reached through one descriptor so that nobody can move the ground under them.

The folder belongs to the user who runs this and no one else may write it; what is found in it is nevertheless opened
with suspicion, since it may have been somebody else's once.
Source: docs/formats/cache.md, "Content".
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.errors import DeniedError
from cernvm.core.home import ensure_folder
from cernvm.fs.cache.content import FileContent

OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)  # which says nothing of what was to be opened
SUBFOLDERS = tuple(f"{number:02x}" for number in range(256))

_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{38}(-rmd160|-shake128)?(\.plain)?")


@dataclass(frozen=True, slots=True)
class Found:
    """A content file as it lies in the folder. Units: `modified_s` is seconds since the epoch."""

    size_bytes: int
    modified_s: float


@dataclass(frozen=True, slots=True)
class Access:
    """Whose a folder may be, and the modes of what is made in it."""

    check: Callable[[int, Path], None]
    folder_mode: int
    file_mode: int
    draft_mode: int = 0o700
    private_folders: tuple[str, ...] = ()
    makes_folders: bool = True


def own_access(*, is_readable_by_all: bool) -> Access:
    """A folder that only this user may write, and only he may read unless said otherwise."""
    return Access(
        check_own,
        folder_mode=0o755 if is_readable_by_all else 0o700,
        file_mode=0o644 if is_readable_by_all else 0o600,
        private_folders=("owners",),
    )


def is_content_name(name: str) -> bool:
    """Whether a name can only mean content of this folder."""
    return _NAME.fullmatch(name) is not None


def open_regular(name: str, root: int, path: Path) -> FileContent:
    """The regular file `name` below the folder `root`; `path` is what it is called.

    Errors: `OSError`, with `EMEDIUMTYPE` for anything that is no regular file.
    """
    descriptor = os.open(name, OPEN_FLAGS, dir_fd=root)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise OSError(errno.EMEDIUMTYPE, "is no regular file", str(path))
    return FileContent(descriptor, path, found.st_size)


class Folder:
    """One cache folder. Errors: `OSError`; `DeniedError` when it fails its check."""

    def __init__(self, path: Path, access: Access) -> None:
        self.path = path
        self._access = access
        self._root = -1
        self._left: list[int] = []
        self._fit: set[str] = set()
        self.enter()

    def enter(self) -> None:
        """Open the folder, at first or after somebody removed it under the living."""
        access = self._access
        if access.makes_folders:
            ensure_folder(self.path, mode=access.folder_mode)
        root = os.open(self.path, FOLDER_FLAGS & ~os.O_NOFOLLOW)
        try:
            access.check(root, self.path)
            if access.makes_folders:
                _widen(root, access.folder_mode)
                for name in ("txn", *access.private_folders):
                    self._make(name, root, access.draft_mode)
        except BaseException:
            os.close(root)
            raise
        if self._root >= 0:
            self._left.append(self._root)  # other threads may be using it
        self._root = root
        self._fit = set()

    def _make(self, name: str, root: int, mode: int) -> None:
        with suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=root)
        below = os.open(name, FOLDER_FLAGS, dir_fd=root)
        try:
            self._access.check(below, self.path / name)
            _widen(below, mode)
        finally:
            os.close(below)

    def _enter_subfolder(self, name: str, *, makes: bool = False) -> None:
        """Check the subfolder of content before its first use; `makes` it where it is missing.

        Errors: `OSError`, with `EPERM` when it is not fit to be used.
        """
        subfolder = name[:2]
        if subfolder in self._fit:
            return
        try:
            if makes and self._access.makes_folders:
                self._make(subfolder, self._root, self._access.folder_mode)
            below = os.open(subfolder, FOLDER_FLAGS, dir_fd=self._root)
            try:
                self._access.check(below, self.path / subfolder)
            finally:
                os.close(below)
        except FileNotFoundError:
            raise
        except (OSError, DeniedError) as error:
            if isinstance(error, OSError) and error.errno in NO_DESCRIPTORS:
                raise
            raise OSError(errno.EPERM, f"is not to be used: {error}", subfolder) from error
        self._fit.add(subfolder)

    @property
    def is_gone(self) -> bool:
        """Whether somebody removed or replaced the folder since it was entered."""
        try:
            here, there = os.fstat(self._root), self.path.stat()
        except OSError:
            return True
        return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)

    def open(self, name: str) -> FileContent:
        """The content called `name`. Errors: `OSError`."""
        self._enter_subfolder(name)
        return open_regular(name, self._root, self.path / name)

    def create(self, draft: str) -> int:
        """A descriptor of a file below `txn/` that nobody has yet. Errors: `OSError`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        mode = self._access.file_mode
        descriptor = os.open(f"txn/{draft}", flags, mode, dir_fd=self._root)
        if mode & 0o077:  # the process's mask may have taken from it
            os.fchmod(descriptor, mode)
        return descriptor

    def open_draft(self, draft: str, path: Path) -> FileContent:
        """What was written to a draft, to be read. Errors: `OSError`."""
        return open_regular(f"txn/{draft}", self._root, path)

    def commit(self, draft: str, name: str) -> None:
        """Make a draft the content called `name`. Errors: `OSError`."""
        self._enter_subfolder(name, makes=True)
        try:
            os.rename(f"txn/{draft}", name, src_dir_fd=self._root, dst_dir_fd=self._root)
        except FileNotFoundError:  # somebody removed the subfolder under the living
            self._fit.discard(name[:2])
            self._enter_subfolder(name, makes=True)
            os.rename(f"txn/{draft}", name, src_dir_fd=self._root, dst_dir_fd=self._root)

    def discard(self, draft: str) -> None:
        """Remove a draft."""
        with suppress(OSError):
            os.unlink(f"txn/{draft}", dir_fd=self._root)

    def draft_modified_s(self, draft: str) -> float:
        """When a draft was last written, in seconds since the epoch; now, if it is gone."""
        try:
            found = os.stat(f"txn/{draft}", dir_fd=self._root, follow_symlinks=False)
        except OSError:
            return time.time()
        return found.st_mtime

    def drafts(self) -> list[str]:
        """All drafts, whosesoever they are. Errors: `OSError`."""
        with _listed("txn", self._root) as entries:
            return [entry.name for entry in entries]

    def remove(self, name: str) -> None:
        """Remove content, or whatever stands in its place."""
        if not is_content_name(name):
            return
        try:
            self._enter_subfolder(name)
            os.unlink(name, dir_fd=self._root)
        except IsADirectoryError:
            with suppress(OSError):
                os.rmdir(name, dir_fd=self._root)
        except OSError:
            pass

    def files(self, subfolder: str) -> dict[str, Found]:
        """All content files of one of the `SUBFOLDERS` by name; none of one that is not fit. Errors: `OSError`."""
        found: dict[str, Found] = {}
        try:
            self._enter_subfolder(subfolder)
        except (FileNotFoundError, PermissionError):
            return found
        with _listed(subfolder, self._root) as entries:
            for entry in entries:
                name = f"{subfolder}/{entry.name}"
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if is_content_name(name) and stat.S_ISREG(status.st_mode):
                        found[name] = Found(status.st_size, status.st_mtime)
        return found

    def free(self) -> os.statvfs_result:
        """The partition's space. Errors: `OSError`."""
        return os.fstatvfs(self._root)

    def close(self) -> None:
        """Let go of the folder; nothing of it can be opened any more."""
        for root in (*self._left, self._root):
            os.close(root)
        self._left, self._root = [], -1


@contextmanager
def _listed(name: str, root: int) -> Iterator[Iterator[os.DirEntry[str]]]:
    """The entries of a folder below `root`, which must be no link."""
    descriptor = os.open(name, FOLDER_FLAGS, dir_fd=root)
    try:
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)


def _widen(descriptor: int, mode: int) -> None:
    """Give a folder the bits of `mode` that it lacks, if it is ours."""
    found = os.fstat(descriptor)
    if mode & ~stat.S_IMODE(found.st_mode) and found.st_uid == os.geteuid():
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode) | mode)


def check_own(descriptor: int, path: Path) -> None:
    """Refuse a folder that anybody but this user may write. Errors: `DeniedError`."""
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise DeniedError(
            f"{path} belongs to user {found.st_uid}, who could change what is read from it",
            advice="name a folder of your own with --cache; another user's is read with --alien-cache",
        )
    if found.st_mode & 0o022:
        raise DeniedError(
            f"{path} may be written by others, who could change what is read from it",
            advice=f"remove it, or if you trust what is in it: chmod go-w {path}",
        )
