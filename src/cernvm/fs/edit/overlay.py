"""A writable folder laid over a mounted revision: what is changed goes to an upper folder, which is the user's own.

The upper folder is in the kernel's overlay format with marks in `user.` attributes, as a namespace's owner may write
them: a character device 0:0 (or a file marked so) is a name that was removed, an opaque folder hides what was in it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cernvm.core import linux
from cernvm.core.errors import NotFoundError, PrerequisiteError
from cernvm.core.home import ensure_folder

_CAP_SYS_ADMIN = 21
_ALL_IDS = 2**32 - 1
_FLAGS = linux.MS_NOSUID | linux.MS_NODEV
# what changes the upper folder's format is off, so that it can be read without the kernel
_OPTIONS = "userxattr,index=off,metacopy=off,xino=off"
_ADVICE = (
    "keep CVM_HOME on a local file system such as ext4, xfs or btrfs, not on NFS or in a container's own layer; "
    "an ordinary user needs Linux 5.11 or later"
)


@dataclass(frozen=True, slots=True)
class Workplace:
    """The folders of one transaction: `upper` holds its changes, `work` is the kernel's."""

    folder: Path

    @property
    def upper(self) -> Path:
        """What was changed, in the overlay's format."""
        return self.folder / "upper"

    @property
    def work(self) -> Path:
        """Where the kernel prepares what goes to the upper folder."""
        return self.folder / "work"

    @property
    def base(self) -> Path:
        """Where the revision below is mounted, if it is for the whole machine."""
        return self.folder / "base"

    @property
    def lock(self) -> Path:
        """Held by whoever works in it."""
        return self.folder / "lock"

    def make(self) -> None:
        """Make what is missing, for nobody else to look into."""
        ensure_folder(self.folder, mode=0o700)
        ensure_folder(self.upper)
        ensure_folder(self.work)

    def clear(self) -> None:
        """Remove all changes, whatever rights they carry."""
        for folder in (self.upper, self.work, self.base):
            if folder.is_dir():
                remove_tree(folder)


def shows_true_owners() -> bool:
    """Whether files of any owner can be shown and changed here: only with root's rights outside of a user namespace."""
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.partition("CapEff:")[2].split()[0], 16)
    rows = Path("/proc/self/uid_map").read_text().splitlines()
    mapped = sum(int(row.split()[2]) for row in rows)
    return mapped >= _ALL_IDS and bool(capabilities >> _CAP_SYS_ADMIN & 1)


def lay_over(lower: Path, point: Path, place: Workplace) -> None:
    """Mount a writable folder at `point` that shows `lower` with the workplace's changes.

    Errors: `NotFoundError` when `lower` is no folder, `PrerequisiteError` when the kernel cannot.
    """
    try:
        below = os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError("folder in the repository", str(lower)) from None
    here = Path.cwd()
    try:
        os.chdir(place.folder)
        # by descriptor and relative path: no name can be taken for an option
        options = f"lowerdir=/proc/self/fd/{below},upperdir=upper,workdir=work,{_OPTIONS}"
        linux.mount("overlay", point, "overlay", flags=_FLAGS, options=options)
    except OSError as error:
        raise PrerequisiteError(
            f"the kernel does not lay a writable folder over {point}: {error.strerror}",
            advice=_ADVICE,
        ) from error
    finally:
        os.chdir(here)
        os.close(below)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all below it, also what its owner closed to himself; nothing is followed."""
    folders = [os.fsencode(folder)]
    for place in folders:  # grows while it is walked
        if stat.S_IMODE(os.lstat(place).st_mode) & 0o700 != 0o700:
            os.chmod(place, 0o700)  # noqa: PTH101
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    os.unlink(entry.path)  # noqa: PTH108
    for place in reversed(folders):
        os.rmdir(place)  # noqa: PTH106
