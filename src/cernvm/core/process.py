"""Processes that never outlive their owner, and records that find them again after a crash.

A `Child` dies with the thread that started it (the kernel sees to it). A `Record` is a file naming a background
process by its id *and* start time, so that a reused id is never mistaken for it and nothing is ever ended by name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from cernvm.core.errors import ConflictError, PrerequisiteError
from cernvm.core.home import ensure_folder, write_atomically
from cernvm.core.linux import die_with_parent

STOP_GRACE_S = 5.0


def start_child(
    command: Sequence[str],
    *,
    log: Path | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    package: str = "",
) -> subprocess.Popen[bytes]:
    """Start a program that is killed when the calling thread ends; its output goes to `log` (else nowhere).

    Errors: `PrerequisiteError` naming the program, and the Debian `package` that brings it, when it is missing.
    Concurrency: call from a thread that lives as long as the child should, usually the main one.
    """
    if isinstance(log, Path):
        ensure_folder(log.parent)
        output: IO[bytes] | int = log.open("ab")
    else:
        output = subprocess.DEVNULL if log is None else log
    try:
        with _interrupted_later():
            return subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                pass_fds=tuple(pass_fds),
                preexec_fn=die_with_parent,  # noqa: PLW1509  # prctl only: no lock, no allocation between fork and exec
            )
    except FileNotFoundError:
        advice = f"install it: apt-get install {package}" if package else "install it"
        raise PrerequisiteError(f"the program {command[0]} is missing", advice=advice) from None
    finally:
        if isinstance(log, Path):
            output.close()  # type: ignore[union-attr]


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back: what a handler raises while a process forks is lost, and fails the child."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    held = {number: handler for number, handler in before.items() if callable(handler)}
    for number in held:
        signal.signal(number, lambda *one: came.append(one))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        for one, frame in came:
            held[signal.Signals(one)](one, frame)


def stop_child(child: subprocess.Popen[bytes], *, grace_s: float = STOP_GRACE_S) -> int:
    """Ask a child to end, kill it after `grace_s`, and return its exit status; never waits longer than twice that."""
    if child.poll() is None:
        child.terminate()
        try:
            return child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait(grace_s)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a background process.

    Shape: `started` is the kernel's start tick of `pid`; `address` is where it listens (`host:port`), or empty.
    """

    pid: int
    started: int
    what: str
    address: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return _start_tick(self.pid) == self.started

    def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """End the process: SIGTERM, then SIGKILL after `grace_s`; returns when it is gone."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.is_alive:
                return
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return
            end = time.monotonic() + grace_s
            while self.is_alive and time.monotonic() < end:
                time.sleep(0.02)


def record_process(path: Path, what: str, *, pid: int | None = None, address: str = "") -> Record:
    """Write the record of a process (this one, unless `pid` is given) to `path`."""
    record = describe_process(os.getpid() if pid is None else pid, what, address=address)
    ensure_folder(path.parent)
    write_atomically(path, json.dumps(asdict(record)).encode())
    return record


def describe_process(pid: int, what: str, *, address: str = "") -> Record:
    """A running process as a record, which tells it from later ones of the same id."""
    return Record(pid, _start_tick(pid) or 0, what, address)


def read_record(path: Path) -> Record | None:
    """The record at `path`; None where there is none or it cannot be read as one."""
    try:
        row = json.loads(path.read_bytes())
        return Record(int(row["pid"]), int(row["started"]), str(row["what"]), str(row["address"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_unrecorded(path: Path) -> None:
    """Make sure that no other living process has its record at `path`.

    Errors: `ConflictError` naming that process: its record is how others find it, and not to be taken from it.
    """
    other = read_record(path)
    if other is not None and other.is_alive and other.pid != os.getpid():
        place = f" on {other.address}" if other.address else ""
        raise ConflictError(
            f"{other.what} runs already for this data folder: process {other.pid}{place}",
            advice="use that one, end it first, or choose another CVM_HOME",
        )


def remove_record(path: Path) -> None:
    """Remove the record at `path` if it is this process's own."""
    record = read_record(path)
    if record is not None and record.pid == os.getpid():
        path.unlink(missing_ok=True)


def _start_tick(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None for a process that is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    after_name = stat[stat.rindex(b")") + 2 :].split()
    return None if after_name[0] in (b"Z", b"X") else int(after_name[19])
