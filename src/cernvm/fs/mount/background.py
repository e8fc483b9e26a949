"""A process that serves when the command that made it has gone on: fork it, hear whether it mounted, hand its error on.

It is a fork, since the command has imported all that it needs; and no child of the command, which need not wait for it.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

from cernvm.core import errors, log
from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeadlineError, UnavailableError
from cernvm.core.home import ensure_folder
from cernvm.core.os_errors import from_os

START_DEADLINE_S = 90.0

_REPORT_LIMIT_BYTES = 64 * 1024
_LOG_TAIL_BYTES = 2000

logger = logging.getLogger(__name__)


class Report:
    """The one word that a serving process says to the command that made it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: int | None = descriptor

    def ready(self, fact: Mapping[str, Any]) -> None:
        """This process serves."""
        self._say({"ready": fact})

    def failed(self, error: CvmError) -> None:
        """This process ends, and why; nobody hears it once it was ready."""
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        self._say({"kind": kind.__name__, "error": error.what, "advice": error.advice})

    def _say(self, row: Mapping[str, Any]) -> None:
        if self.descriptor is None:
            return
        descriptor, self.descriptor = self.descriptor, None
        with suppress(BrokenPipeError):  # the command was ended meanwhile
            os.write(descriptor, json.dumps(row, default=str).encode() + b"\n")
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Started:
    """A process that was asked to serve, and has not answered yet. `group` is its process group."""

    group: int
    channel: int
    log: Path
    deadline: Deadline

    def hear(self) -> dict[str, Any]:
        """What it reports once it is ready.

        Errors: the one that it reported; `DeadlineError` (it is ended), `UnavailableError` when it died silently.
        """
        try:
            return self._hear()
        finally:
            os.close(self.channel)

    def _hear(self) -> dict[str, Any]:
        readable, _, _ = select.select([self.channel], [], [], self.deadline.remaining_s)
        if not readable:
            with suppress(ProcessLookupError):
                os.killpg(self.group, signal.SIGKILL)
            advice = f"its log is {self.log}"
            raise DeadlineError("mounting", after_s=self.deadline.budget_s, advice=advice)
        line = os.read(self.channel, _REPORT_LIMIT_BYTES)
        row: dict[str, Any] = json.loads(line) if line else {}
        if "error" in row:
            raise revived(row)
        if "ready" not in row:
            raise UnavailableError(
                "the mount's process ended before it was ready",
                advice=f"its log is {self.log}: {_tail(self.log)}",
            )
        return dict(row["ready"])


def start_in_background(
    serve: Callable[[Report], None],
    log_file: Path,
    *,
    level: int = logging.INFO,
    keep: tuple[int, ...] = (),
) -> Started:
    """Fork a process in a session of its own that calls `serve`, with its output in a file.

    Shape: `keep` are descriptors that it needs; of all others it has none.
    Concurrency: this process must have one thread.
    """
    ensure_folder(log_file.parent)
    output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _serve_detached(serve, Report(theirs), level, output, (theirs, *keep))
    os.close(output)
    os.close(theirs)
    os.waitpid(child, 0)
    return Started(child, ours, log_file, Deadline.after(START_DEADLINE_S))


def _serve_detached(
    serve: Callable[[Report], None],
    report: Report,
    level: int,
    output: int,
    keep: tuple[int, ...],
) -> Never:
    """In the child: nothing may come back from here into the code of the command."""
    status = 1
    try:
        os.setsid()  # no signal of the command's terminal is for us
        if os.fork():
            os._exit(0)
        _take_over_streams(output, keep)
        log.configure(level=level, as_json=True)
        os.chdir("/")
        try:
            serve(report)
            status = 0
        except CvmError as error:
            logger.error("mount.failed", extra=log.fields(error=error.what))  # noqa: TRY400
            report.failed(error)
        except OSError as error:
            logger.exception("mount.failed")
            report.failed(from_os(error))
    except KeyboardInterrupt:
        status = 0
    except BaseException:
        logger.exception("mount.failed")
        raise
    finally:
        os._exit(status)


def _take_over_streams(output: int, keep: tuple[int, ...]) -> None:
    """Hold nothing of the command's open: whoever waits for the end of its output must not wait for us."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for entry in Path("/proc/self/fd").iterdir():
        number = int(entry.name)
        if number > 2 and number not in keep:
            with suppress(OSError):  # the listing's own
                os.close(number)


def revived(row: Mapping[str, str]) -> CvmError:
    """The error that `Report.failed` told of."""
    kind: type[CvmError] = getattr(errors, row["kind"])
    error = kind.__new__(kind)
    CvmError.__init__(error, row["error"], advice=row["advice"])
    return error


def _tail(log_file: Path) -> str:
    with log_file.open("rb") as file:
        file.seek(-min(_LOG_TAIL_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return file.read().decode("utf-8", "replace").strip()
