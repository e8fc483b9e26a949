"""Ending a mount, whether its process lives, hangs or is gone."""

from __future__ import annotations

import time
from pathlib import Path

from cernvm.core.errors import DeniedError, NotFoundError
from cernvm.fs.fuse import KIND, detach, mount_at
from cernvm.fs.mount.record import MountRecord, recorded_mount, remove_record

_FAREWELL_S = 2.0


def unmount(point: Path, run: Path, *, force: bool = False) -> None:
    """Unmount the repository at `point` and see its process end; `force` does so although it is in use.

    Where the mount was shown in other mount namespaces too, it ends there as well: no process stays that serves nobody.
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
        is_dead = record is not None and not record.process.is_alive
        detach(point, lazily=force or is_dead)
    if record is not None:
        _see_end(record, run, farewell_s=0 if force else _FAREWELL_S)


def _see_end(record: MountRecord, run: Path, *, farewell_s: float) -> None:
    end = time.monotonic() + farewell_s
    while record.process.is_alive and time.monotonic() < end:
        time.sleep(0.02)
    try:
        record.process.stop()
    except PermissionError:
        raise DeniedError(
            f"the mount's process {record.process.pid} is not yours to end",
            advice="unmount as the user who mounted",
        ) from None
    remove_record(run, record.point)
