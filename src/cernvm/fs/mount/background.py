"""A mount that outlives the command that made it: start its process, hear whether it mounted, hand its error on."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cernvm.core import errors
from cernvm.core.errors import CvmError, DeadlineError, UnavailableError
from cernvm.core.home import ensure_folder

START_DEADLINE_S = 90.0

_REPORT_LIMIT_BYTES = 64 * 1024
_LOG_TAIL_BYTES = 2000


def start_in_background(
    command: Sequence[str], *, settings: str, log: Path, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Start `command --ready-fd N` in a session of its own; returns what it reported once it was ready.

    It reads `settings`, where no other user sees them, from its standard input; its output goes to the file `log`.
    Errors: the one that the process reported; `DeadlineError` (it is ended), `UnavailableError` when it died silently.
    """
    ensure_folder(log.parent)
    ours, theirs = os.pipe()
    try:
        with log.open("ab") as output, tempfile.TemporaryFile() as given:
            given.write(settings.encode())
            given.seek(0)
            process = subprocess.Popen(
                [*command, "--ready-fd", str(theirs)],
                stdin=given,
                stdout=output,
                stderr=output,
                cwd="/",
                env=dict(environment),
                pass_fds=(theirs,),
                start_new_session=True,
            )
        os.close(theirs)
        theirs = -1
        return _hear(ours, process, log)
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def report_ready(descriptor: int, fact: Mapping[str, Any]) -> None:
    """Tell the starting command that this process is ready."""
    _report(descriptor, {"ready": fact})


def report_error(descriptor: int, error: CvmError) -> None:
    """Tell the starting command why this process ends."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    _report(descriptor, {"kind": kind.__name__, "error": error.what, "advice": error.advice})


def _report(descriptor: int, row: Mapping[str, Any]) -> None:
    os.write(descriptor, json.dumps(row, default=str).encode() + b"\n")
    os.close(descriptor)


def _hear(descriptor: int, process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    readable, _, _ = select.select([descriptor], [], [], START_DEADLINE_S)
    if not readable:
        process.kill()
        process.wait()
        raise DeadlineError("mounting", after_s=START_DEADLINE_S, advice=f"its log is {log}")
    line = os.read(descriptor, _REPORT_LIMIT_BYTES)
    row: dict[str, Any] = json.loads(line) if line else {}
    if "ready" in row:
        process.returncode = 0  # it lives on without us: nobody waits for it
        return dict(row["ready"])
    process.wait()
    if "error" in row:
        raise revived(row)
    raise UnavailableError(
        f"the mount's process ended with status {process.returncode} before it was ready",
        advice=f"its log is {log}: {_tail(log)}",
    )


def revived(row: Mapping[str, str]) -> CvmError:
    """The error that `report_error` told of."""
    kind: type[CvmError] = getattr(errors, row["kind"])
    error = kind.__new__(kind)
    CvmError.__init__(error, row["error"], advice=row["advice"])
    return error


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
