"""Ending a mount, whether its process lives, hangs or is gone."""

from __future__ import annotations

import time
from pathlib import Path

from cernvm.core.errors import DeniedError, NotFoundError
from cernvm.core.process import Record
from cernvm.fs.fuse import KIND, detach, mount_at
from cernvm.fs.mount.record import recorded_mount, remove_record

_FAREWELL_S = 0.5
_GRACE_S = 0.3


def unmount(point: Path, run: Path, *, force: bool = False) -> None:
    """Unmount the repository at `point` and see its processes end; `force` does so although it is in use.

    Where the mount was shown in other mount namespaces too, it ends there as well: no process stays that serves nobody.
    Whatever those processes are at, it takes about a second.
    Errors: `NotFoundError` when no repository is mounted there, `UnavailableError` while it is in use.
    """
    record = recorded_mount(run, point)
    mounted = mount_at(point)
    is_ours = mounted is not None and mounted.kind == KIND
    if not is_ours and record is None:
        raise NotFoundError(
            "mounted repository at", str(point), advice="cvm mount lists what is mounted"
        )
    if is_ours:
        # A dead mount is nobody's to lose: its readers have had their errors already.
        is_dead = record is not None and not (record.process.is_alive or record.is_kept)
        detach(point, lazily=force or is_dead)
    if record is not None:
        _see_end(point, run, farewell_s=0 if force else _FAREWELL_S)


def _see_end(point: Path, run: Path, *, farewell_s: float) -> None:
    """The process first, which tells the holder; the holder by itself only when nobody serves."""
    end = time.monotonic() + farewell_s
    while (record := recorded_mount(run, point)) is not None:
        for process in (record.process, record.holder):
            if process is not None:
                _stop(process, grace_s=_GRACE_S + max(0.0, end - time.monotonic()), asking_at=end)
        after = recorded_mount(run, point)
        if after is None or after.process == record.process:
            remove_record(run, point)  # unless a successor came meanwhile, whose turn it is now


def _stop(process: Record, *, grace_s: float, asking_at: float) -> None:
    while process.is_alive and time.monotonic() < asking_at:
        time.sleep(0.01)
    try:
        process.stop(grace_s=grace_s)
    except PermissionError:
        raise DeniedError(
            f"the mount's process {process.pid} is not yours to end",
            advice="unmount as the user who mounted",
        ) from None
