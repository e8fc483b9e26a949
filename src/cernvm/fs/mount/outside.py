"""A mount as it looks from outside: what the kernel, its record and its log say while its process says nothing.

Nothing here touches the mount's file system, waits for anybody, or needs rights beyond those of the asker.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.process import Record
from cernvm.fs.mount.record import MountRecord

_CONNECTIONS = Path("/sys/fs/fuse/connections")
_TAIL_BYTES = 16 * 1024
_MOST_LINES = 5
_GRAVE = ("warning", "error", "critical")
_STATES = {
    "R": "runs",
    "S": "runs",  # it waits for its next request
    "I": "runs",
    "D": "waits in the kernel",
    "T": "is stopped",
    "t": "is stopped by a debugger",
    "Z": "has died",
    "X": "has died",
}


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A process as the kernel has it. Shape: `state` in words; `waits_in` names a place in the kernel, or is empty."""

    pid: int
    state: str
    waits_in: str = ""


@dataclass(frozen=True, slots=True)
class Outside:
    """What can be seen of a mount without its process.

    Shape: `holder` is None for a mount without one; `unanswered` are the requests that the kernel waits for, None where
    it does not tell; `log` its process's last warnings, the newest last.
    """

    process: ProcessState
    holder: ProcessState | None
    unanswered: int | None
    log: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """What is wrong, in one sentence's end: `the mount …`."""
        is_alive = self.process.state != "is gone"
        if not is_alive and self.holder is not None and self.holder.state != "is gone":
            return "lost its process; its holder is starting another one, and readers wait for that"
        if not is_alive:
            return "is dead: its process is gone, and so is whoever could start another one"
        if self.process.state == "is stopped":
            return f"hangs: its process {self.process.pid} is stopped, kill -CONT {self.process.pid} lets it go on"
        return "does not answer, although its process lives"


def look_from_outside(record: MountRecord, log: Path) -> Outside:
    """What can be seen of a recorded mount; `log` is where its process writes."""
    return Outside(
        _state_of(record.process),
        None if record.holder is None else _state_of(record.holder),
        _unanswered(record.device),
        _last_warnings(log),
    )


def _state_of(record: Record) -> ProcessState:
    if not record.is_alive:
        return ProcessState(record.pid, "is gone")
    try:
        stat = Path(f"/proc/{record.pid}/stat").read_bytes()
        letter = stat[stat.rindex(b")") + 2 :][:1].decode()
    except (OSError, ValueError):
        return ProcessState(record.pid, "is gone")
    return ProcessState(record.pid, _STATES.get(letter, "runs"), _waits_in(record.pid))


def _waits_in(pid: int) -> str:
    try:
        place = Path(f"/proc/{pid}/wchan").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""  # another user's
    return "" if place == "0" else place


def _unanswered(device: str) -> int | None:
    minor = device.rpartition(":")[2]
    try:
        return int((_CONNECTIONS / minor / "waiting").read_text("ascii"))
    except (OSError, ValueError):
        return None  # the control file system is not mounted, or it is another user's


def _last_warnings(log: Path) -> tuple[str, ...]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return ()
    return tuple(words for line in lines if (words := _warning(line)))[-_MOST_LINES:]


def _warning(line: str) -> str:
    try:
        row = json.loads(line)
        if row["level"] not in _GRAVE:
            return ""
        told = str(row.get("error") or row.get("detail") or row.get("exception") or "")
        return f"{row.get('time', '')} {row['event']} {told.rpartition(chr(10))[2]}".strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""  # a line that was cut, or that is not ours
