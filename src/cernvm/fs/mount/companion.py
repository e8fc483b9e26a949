"""A mount served beside one command: by a process that ends when the command does, however that ends.

The command is this very process, which executes it afterwards: its exit status, its terminal and its signals are its
own, and nobody stands between it and who started it. The serving process is no child of it, and watches it by a
descriptor of the kernel's (pidfd), so that it also sees a SIGKILL.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from cernvm.core import log
from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeadlineError, UnavailableError
from cernvm.core.home import ensure_folder
from cernvm.core.linux import limit_heaps
from cernvm.fs.mount.background import (
    START_DEADLINE_S,
    report_error,
    report_ready,
    revived,
)
from cernvm.fs.mount.mounting import mount_repository
from cernvm.fs.mount.settings import MountSettings

_FAREWELL_S = 3.0
_REPORT_LIMIT_BYTES = 64 * 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Started:
    settings: MountSettings
    channel: int
    log: Path


def serve_beside(mounts: Sequence[MountSettings], logs: Path) -> None:
    """Mount repositories for as long as this process, and what it may execute next, lives; returns when all answer.

    Shape: `logs` is the folder of their log files.
    Errors: the first that a serving process reported; `DeadlineError`. The others end with this process.
    Concurrency: this process must have one thread.
    """
    ensure_folder(logs)
    started = [_start(settings, logs / f"exec-{settings.repository}.log") for settings in mounts]
    deadline = Deadline.after(START_DEADLINE_S)
    try:
        for one in started:
            _hear(one, deadline)
    finally:
        for one in started:
            os.close(one.channel)


def _start(settings: MountSettings, log_file: Path) -> _Started:
    watched = os.pidfd_open(os.getpid())
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        _detach_and_serve(settings, log_file, watched, theirs)
    os.waitpid(child, 0)
    os.close(watched)
    os.close(theirs)
    return _Started(settings, ours, log_file)


def _hear(started: _Started, deadline: Deadline) -> None:
    readable, _, _ = select.select([started.channel], [], [], deadline.remaining_s)
    if not readable:
        raise DeadlineError("mounting", after_s=deadline.budget_s, advice=f"see {started.log}")
    line = os.read(started.channel, _REPORT_LIMIT_BYTES)
    row = json.loads(line) if line else {}
    if "error" in row:
        raise revived(row)
    if "ready" not in row:
        raise UnavailableError(
            f"the process that serves {started.settings.repository} ended before it was ready",
            advice=f"its log is {started.log}",
        )


def _detach_and_serve(settings: MountSettings, log_file: Path, watched: int, channel: int) -> Never:
    """In the child: nothing may come back from here into the code of the command."""
    status = 1
    try:
        os.setsid()  # no signal of the command's terminal is for us
        if os.fork():
            os._exit(0)
        _take_over_streams(log_file, keep=(watched, channel))
        log.configure(as_json=True)
        limit_heaps()
        threading.Thread(target=_end_with, args=(watched,), name="watch", daemon=True).start()
        os.chdir("/")
        try:
            mount_repository(
                settings, ready=lambda live: report_ready(channel, {"revision": live.revision})
            )
            status = 0
        except CvmError as error:
            report_error(channel, error)
    except KeyboardInterrupt:
        status = 0
    except BaseException:
        logger.exception("companion.failed")
        raise
    finally:
        os._exit(status)


def _take_over_streams(log_file: Path, *, keep: tuple[int, int]) -> None:
    """Hold nothing of the command's open: whoever waits for the end of its output must not wait for us."""
    nothing = os.open(os.devnull, os.O_RDWR)
    output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for entry in Path("/proc/self/fd").iterdir():
        number = int(entry.name)
        if number > 2 and number not in keep:
            try:
                os.close(number)
            except OSError:
                continue  # the listing's own


def _end_with(watched: int) -> None:
    """End this process soon after the watched one."""
    select.select([watched], [], [])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_FAREWELL_S)
    os._exit(1)
