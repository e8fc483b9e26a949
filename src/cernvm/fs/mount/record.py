"""What is known of each mount outside of its process: a file in `$CVM_HOME/run/mounts` while it lives.

The file is a process record (`core.process`) with more fields, so that a stale one is told from a live one by process
id and start time, and a dead mount is found and swept without touching it.
Source: docs/formats/mount-control.md
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cernvm.core.home import ensure_folder, write_atomically
from cernvm.core.process import Record, describe_process, read_record

_FOLDER = "mounts"
_ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class MountRecord:
    """One mount: the repository, where it is, and the process that serves it.

    Shape: `device` is the file system's `major:minor` in mount tables; `process.address` the path of the control
    socket; `holder` keeps the mount while the process that serves is replaced; `ended` tells why a mount is no more
    whose process ended it by itself.
    """

    repository: str
    point: Path
    device: str
    process: Record
    holder: Record | None = None
    ended: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether a holder lives, so that another process will serve if this one does not."""
        return self.holder is not None and self.holder.is_alive

    @property
    def socket(self) -> Path:
        """Where the mount answers questions."""
        return Path(self.process.address)


def record_mount(
    run: Path, repository: str, point: Path, device: str, *, holder: Record | None = None
) -> MountRecord:
    """Write the record of a mount that this process serves."""
    path = record_path(run, point)
    process = describe_process(
        os.getpid(), f"mount {repository}", address=str(socket_path(run, point))
    )
    record = MountRecord(repository, point, device, process, holder)
    row = {**asdict(process), "repository": repository, "point": str(point), "device": device}
    if holder is not None:
        row["holder"] = {"pid": holder.pid, "started": holder.started}
    write_atomically(path, json.dumps(row).encode())
    return record


def record_end(run: Path, record: MountRecord, reason: str) -> None:
    """Leave word in a mount's record why it ended, until somebody mounts there or unmounts."""
    path = record_path(run, record.point)
    row = {**json.loads(path.read_bytes()), "ended": reason}
    row.pop("holder", None)
    write_atomically(path, json.dumps(row).encode())
    socket_path(run, record.point).unlink(missing_ok=True)


def remove_record(run: Path, point: Path) -> None:
    """Remove a mount's record and control socket; fine when they are gone already."""
    record_path(run, point).unlink(missing_ok=True)
    socket_path(run, point).unlink(missing_ok=True)


def recorded_mounts(run: Path) -> Iterator[MountRecord]:
    """Every mount on record, dead ones included, in the order of their places; damaged files are skipped."""
    found = [_read(path) for path in (run / _FOLDER).glob("*.json")]
    yield from sorted((record for record in found if record), key=lambda record: record.point)


def recorded_mount(run: Path, point: Path) -> MountRecord | None:
    """The mount on record at `point`."""
    return _read(record_path(run, point))


def record_path(run: Path, point: Path) -> Path:
    """Where the record of a mount at `point` is."""
    return ensure_folder(run / _FOLDER) / f"{_mount_id(point)}.json"


def socket_path(run: Path, point: Path) -> Path:
    """Where the control socket of a mount at `point` is."""
    return ensure_folder(run / _FOLDER) / f"{_mount_id(point)}.sock"


def _mount_id(point: Path) -> str:
    return hashlib.sha256(str(point).encode("utf-8", "surrogateescape")).hexdigest()[:_ID_DIGITS]


def _read(path: Path) -> MountRecord | None:
    process = read_record(path)
    if process is None:
        return None
    try:
        row = json.loads(path.read_bytes())
        held = row.get("holder")
        holder = Record(int(held["pid"]), int(held["started"]), "holder") if held else None
        return MountRecord(
            str(row["repository"]),
            Path(row["point"]),
            str(row["device"]),
            process,
            holder,
            str(row.get("ended", "")),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
