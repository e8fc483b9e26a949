"""A mount served beside one command: by a process that ends when the command does, however that ends.

The command is this very process, which executes it afterwards: its exit status, its terminal and its signals are its
own, and nobody stands between it and who started it. The serving process is no child of it, and watches it by a
descriptor of the kernel's (pidfd), so that it also sees a SIGKILL.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from cernvm.fs.mount.background import Report, Started, start_in_background
from cernvm.fs.mount.mounting import mount_repository
from cernvm.fs.mount.service import LiveMount
from cernvm.fs.mount.settings import MountSettings

_FAREWELL_S = 3.0

Ready = Callable[[LiveMount], None]


def _mount(settings: MountSettings, ready: Ready) -> None:
    mount_repository(settings, ready=ready)


def serve_beside(
    mounts: Sequence[MountSettings],
    logs: Path,
    *,
    mount: Callable[[MountSettings, Ready], None] = _mount,
) -> None:
    """Mount repositories for as long as this process, and what it may execute next, lives; returns when all answer.

    Shape: `logs` is the folder of their log files; `mount` mounts one of them and serves it to its end.
    Errors: the first that a serving process reported; `DeadlineError`. The others end with this process.
    Concurrency: this process must have one thread.
    """
    started = [
        _start(settings, mount, logs / f"exec-{settings.repository}.log") for settings in mounts
    ]
    for one in started:
        one.hear()


def _start(
    settings: MountSettings, mount: Callable[[MountSettings, Ready], None], log_file: Path
) -> Started:
    watched = os.pidfd_open(os.getpid())
    try:
        serve = functools.partial(_serve_while, watched, settings, mount)
        return start_in_background(serve, log_file, keep=(watched,))
    finally:
        os.close(watched)


def _serve_while(
    watched: int,
    settings: MountSettings,
    mount: Callable[[MountSettings, Ready], None],
    report: Report,
) -> None:
    threading.Thread(target=_end_with, args=(watched,), name="watch", daemon=True).start()
    mount(settings, lambda live: report.ready({"revision": live.revision}))


def _end_with(watched: int) -> None:
    """End this process soon after the watched one."""
    select.select([watched], [], [])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_FAREWELL_S)
    os._exit(1)
