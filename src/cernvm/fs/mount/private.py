"""A mount namespace of this process's own in which /cvmfs can be shown, with no right but those that users have.

Where mount(2) is not permitted a user namespace lends the right: this process keeps its user and group, so that what it
starts is nobody else, and loses the right again when it executes another program. The namespace, and all mounts in it,
ends with the last process in it.
"""

from __future__ import annotations

import os
from pathlib import Path

from cernvm.core import linux
from cernvm.core.errors import PrerequisiteError

_BASE = Path("/tmp")  # noqa: S108  # any folder that every root has; nothing is written to it
_TMPFS_FLAGS = linux.MS_NOSUID | linux.MS_NODEV
_READ_ONLY = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | _TMPFS_FLAGS
_ADVICE = (
    "an administrator can allow it: sysctl user.max_user_namespaces=10000; on some kernels "
    "kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0; "
    "in a container: --security-opt seccomp=unconfined"
)


def enter_private_namespace() -> None:
    """Move this process, which must have one thread, into a mount namespace of its own.

    Mounts made outside later are still seen inside, and none made inside is seen outside.
    Errors: `PrerequisiteError` where this machine does not let its users make namespaces.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        try:
            linux.unshare(linux.CLONE_NEWNS)
        except PermissionError:
            linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        linux.mount("none", "/", flags=linux.MS_REC | linux.MS_SLAVE)
    except OSError as error:
        raise PrerequisiteError(
            f"this machine does not let you make a mount namespace: {error.strerror}",
            advice=_ADVICE,
        ) from error


def cover(folder: Path) -> None:
    """Show an empty, private file system at `folder`; to be called in a private namespace only."""
    linux.mount("tmpfs", folder, "tmpfs", flags=_TMPFS_FLAGS, options="mode=0755,size=1m")


def show_folders(top: Path, names: list[str]) -> list[Path]:
    """Empty folders `top/NAME`, for mounts; whatever is at `top` is hidden, and where it is missing it is made.

    Shape: `top` is directly below the root; a root that lacks it is replaced by one that shows all the same and `top`.
    Errors: `PrerequisiteError`.
    """
    try:
        if not top.is_dir():
            _replace_root(top.name)
        cover(top)
        points = [top / name for name in names]
        for point in points:
            point.mkdir(mode=0o755)
        linux.mount("none", top, flags=_READ_ONLY)
    except OSError as error:
        raise PrerequisiteError(
            f"{top} cannot be shown: {error}", advice=f"have the administrator make it: mkdir {top}"
        ) from error
    return points


def _replace_root(added: str) -> None:
    """A new root in memory, with everything of the old one bound into it and one folder more; read-only.

    As bubblewrap does it: the scaffold becomes the root first, so that the old one is seen whole below it.
    """
    here = Path.cwd()
    linux.mount("tmpfs", _BASE, "tmpfs", flags=_TMPFS_FLAGS, options="mode=0755,size=1m")
    old, new = _BASE / "old", _BASE / "new"
    old.mkdir()
    new.mkdir()
    linux.pivot_root(_BASE, old)
    os.chdir("/")
    old, new = Path("/old"), Path("/new")
    linux.mount(str(new), new, flags=linux.MS_BIND)
    for entry in old.iterdir():
        _bind(entry, new / entry.name)
    (new / added).mkdir()
    linux.mount("none", new, flags=_READ_ONLY)
    linux.umount(old, detach=True)
    os.chdir(new)
    linux.pivot_root(".", ".")
    linux.umount(".", detach=True)
    os.chdir(here if here.is_dir() else "/")


def _bind(entry: Path, place: Path) -> None:
    if entry.is_symlink():
        place.symlink_to(entry.readlink())
        return
    if entry.is_dir():
        place.mkdir()
    else:
        place.touch()
    linux.mount(str(entry), place, flags=linux.MS_BIND | linux.MS_REC)
