"""Holds a job's processes: runs one command, and leaves nothing of it behind, however it ends.

Run as a script: `python -I payload.py WALL_LIMIT_S COMMAND …`. Standard input is the lifeline: when its other end is
closed (by the pilot, or by the kernel because the pilot is gone), everything is killed. Exits with the command's code,
128 plus the number of the signal that ended it, 124 after the wall limit, 126 or 127 when it cannot be started.
It imports the standard library only, so that no setting of the job's environment can reach it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 1.5
SWEEP_S = 3.0
WALL_LIMIT_CODE = 124

_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Run `arguments[1:]` for at most `arguments[0]` seconds; returns the exit code."""
    limit_s, command = float(arguments[0]), arguments[1:]
    # orphans of the job become our children, so that they can be found at the end
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        job = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except FileNotFoundError as error:
        return _cannot_start(error, 127)
    except OSError as error:
        return _cannot_start(error, 126)
    try:
        return _watch(job, limit_s)
    finally:
        _kill_everything()


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
            os.kill(int(pid), signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return


def _cannot_start(error: OSError, code: int) -> int:
    print(f"{error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201  # the job's own log
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
