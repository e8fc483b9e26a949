"""A transaction that the whole machine can write to, as root: for scripts that know no other way."""

from __future__ import annotations

import errno
from pathlib import Path

from cernvm.core import linux
from cernvm.core.errors import NotFoundError, PrerequisiteError, UnavailableError
from cernvm.core.home import ensure_folder
from cernvm.fs.edit.overlay import Workplace, lay_over
from cernvm.fs.edit.underlay import mount_base
from cernvm.fs.fuse import mount_at, mounts
from cernvm.fs.mount import MountSettings, Report, start_in_background, unmount
from cernvm.fs.store.port import ObjectStore


def show_to_machine(
    base: MountSettings, store: ObjectStore, at: str, point: Path, place: Workplace, logs: Path
) -> None:
    """Mount the revision below, and lay the workplace's changes over it at `point`; the mounts outlive this process.

    Errors: `PrerequisiteError` without root's rights or while something is mounted at `point`; those of mounting.
    """
    if mount_at(point) is not None:
        raise PrerequisiteError(
            f"something is mounted at {point}", advice=f"unmount it first: cvm umount {point}"
        )
    ensure_folder(base.point)
    ensure_folder(point)
    if mount_at(base.point) is None:
        _start(base, store, logs)
    try:
        if at:
            linux.mount(str(base.point), point, flags=linux.MS_BIND)
        lay_over(Path(f"{base.point}{at}"), Path(f"{point}{at}"), place)
    except BaseException:
        hide_from_machine(base.point, point, base.run)
        raise


def hide_from_machine(base: Path, point: Path, run: Path) -> None:
    """Take all of it away again, if it is there. Errors: `UnavailableError` while somebody uses it.

    Without the revision below, after the machine was started again say, what is mounted at `point` is somebody else's.
    """
    if mount_at(base) is None:
        return
    for mounted in reversed(mounts()):
        if mounted.point.is_relative_to(point):
            _umount(mounted.point)
    try:
        unmount(base, run, force=True)
    except NotFoundError:
        linux.umount(base, detach=True)


def _start(base: MountSettings, store: ObjectStore, logs: Path) -> None:
    def serve(report: Report) -> None:
        mount_base(base, store, lambda live: report.ready({"revision": live.revision}))

    start_in_background(serve, logs / f"transaction-{base.repository}.log").hear()


def _umount(point: Path) -> None:
    try:
        linux.umount(point)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise UnavailableError(
                f"{point} is in use",
                advice="leave the folder, and close the files that were opened in it",
            ) from None
        if error.errno != errno.EINVAL:
            raise
