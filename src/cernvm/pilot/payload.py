"""Holds a job's processes: runs one command, and leaves nothing of it behind, however it ends.

Run as a script: `python -I payload.py`. The first line of standard input says what to run (`format_errand`); the rest
is the lifeline: when its other end is closed (by the pilot, or by the kernel because the pilot is gone), everything is
killed. Exits with the command's code, 128 plus the number of the signal that ended it, 124 after the wall limit, 125
when what it was told to hide cannot be hidden, 126 or 127 when the command cannot be started.
It imports the standard library only and gets the job's environment as data, so that none of it takes effect here.
Decision: docs/decisions/job-isolation.md.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

GRACE_S = 1.5
SWEEP_S = 3.0
WALL_LIMIT_CODE = 124
CANNOT_HIDE_CODE = 125
ERRAND_BYTES = 1 << 20

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_CLONE_NEWNS, _CLONE_NEWUSER = 0x0002_0000, 0x1000_0000
_MS_BIND = 4096

_libc = ctypes.CDLL(None, use_errno=True)


def format_errand(
    command: Sequence[str],
    *,
    limit_s: float,
    environment: Mapping[str, str],
    hidden: Sequence[str] = (),
) -> bytes:
    """The line that tells a holder what to run; `hidden` are the files that the command may not read."""
    errand = {"command": command, "limit_s": limit_s, "environment": environment, "hidden": hidden}
    return json.dumps(errand).encode() + b"\n"


def main() -> int:
    """Run what standard input says; returns the exit code."""
    errand = json.loads(_read_line())
    # orphans of the job become our children, so that they can be found at the end
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        if errand["hidden"]:
            _hide(errand["hidden"])
    except OSError as error:
        return _cannot(f"user namespaces are refused: {error.strerror}", CANNOT_HIDE_CODE)
    try:
        job = subprocess.Popen(
            errand["command"],
            stdin=subprocess.DEVNULL,
            env=errand["environment"],
            start_new_session=True,
            preexec_fn=_die_with_holder,  # noqa: PLW1509  # one thread, and prctl only
        )
    except OSError as error:
        code = 127 if isinstance(error, FileNotFoundError) else 126
        return _cannot(f"{error.filename}: {error.strerror}", code)
    try:
        return _watch(job, errand["limit_s"])
    finally:
        _kill_everything()


def _read_line() -> bytes:
    """The first line of standard input, without a byte of what follows."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 65536)
        if not part or len(line) > ERRAND_BYTES:
            sys.exit(128 + signal.SIGTERM)  # the pilot was gone before it said what to do
        line += part
    return line


def _hide(paths: Sequence[str]) -> None:
    """Put the empty device over files, for this process and all it starts.

    The user stays the same, alone in a user namespace of its own. That is what makes it hold: the command has no right
    to undo the mounts, nor, through /proc, to look at any process outside, whoever's it is.
    """
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
    Path("/proc/self/setgroups").write_text("deny", "ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", "ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", "ascii")
    for path in paths:
        if Path(path).exists():
            _check(_libc.mount(b"/dev/null", os.fsencode(path), None, _MS_BIND, None))


def _die_with_holder() -> None:
    """So that the command does not run on when its holder is killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _watch(job: subprocess.Popen[bytes], limit_s: float) -> int:
    ended = os.pidfd_open(job.pid)
    watched = select.poll()
    watched.register(ended, select.POLLIN)
    watched.register(0, select.POLLIN | select.POLLHUP)
    end = time.monotonic() + limit_s
    while (left_s := end - time.monotonic()) > 0:
        happened = {number for number, _ in watched.poll(min(left_s, 3600) * 1000)}
        if ended in happened:
            status = job.wait()
            return status if status >= 0 else 128 - status
        if 0 in happened and not os.read(0, 64):
            return _end_job(job, ended, 128 + signal.SIGTERM)
    print(f"the wall limit of {limit_s:g} s is over", file=sys.stderr)  # noqa: T201  # the job's own log
    return _end_job(job, ended, WALL_LIMIT_CODE)


def _end_job(job: subprocess.Popen[bytes], ended: int, code: int) -> int:
    os.killpg(job.pid, signal.SIGTERM)
    select.select([ended], [], [], GRACE_S)
    return code


def _kill_everything() -> None:
    end = time.monotonic() + SWEEP_S
    while time.monotonic() < end:
        for pid in Path("/proc/thread-self/children").read_text("ascii").split():
            with suppress(PermissionError):  # a set-user-id program of another user
                os.kill(int(pid), signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return


def _cannot(reason: str, code: int) -> int:
    print(reason, file=sys.stderr)  # noqa: T201  # the job's own log
    return code


if __name__ == "__main__":
    sys.exit(main())
