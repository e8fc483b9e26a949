"""A command in a namespace of its own in which a repository is writable; once it ends only its changes are left.

Its keeper is the first process of a process namespace, where the machine allows one: when the keeper ends, or whoever
started it, the kernel ends all that the command has left running, and the mounts with them. Elsewhere the keeper ends
its descendants itself.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import select
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from cernvm.core import linux
from cernvm.core.errors import CvmError, UnavailableError
from cernvm.core.os_errors import from_os
from cernvm.fs.edit.overlay import Workplace, lay_over
from cernvm.fs.edit.underlay import mount_base
from cernvm.fs.mount import MountSettings, Report
from cernvm.fs.mount.background import revived
from cernvm.fs.mount.companion import serve_beside
from cernvm.fs.mount.private import cover, enter_private_namespace, show_folders
from cernvm.fs.store.port import ObjectStore

_NOT_APART = 77  # what a keeper ends with whose process namespace cannot show /proc
_REPORT_LIMIT_BYTES = 64 * 1024
_NOT_FOUND = 127  # as shells have it
_NOT_EXECUTABLE = 126
_PROC_FLAGS = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works on: the revision below, where it is shown, the part that is writable and its workplace.

    Shape: `at` is a path of the repository, empty for all of it; `logs` a folder.
    """

    base: MountSettings
    store: ObjectStore
    at: str
    place: Workplace
    logs: Path

    @property
    def writable(self) -> Path:
        """The folder that may be changed."""
        return Path(f"{self.base.point}{self.at}")


def run_changing(
    session: Session, command: Sequence[str], *, environment: Mapping[str, str], folder: Path | None
) -> int:
    """Run a command that sees the repository writable; returns its exit status as shells tell it.

    Shape: `folder` is where it starts; None: where this process is.
    Errors: `PrerequisiteError` where this machine lets its users make no namespace or overlay; those of mounting.
    Concurrency: this process must have one thread. A `KeyboardInterrupt` (SIGTERM) ends the command at once.
    """
    errand = _Errand(session, tuple(command), dict(environment), folder or Path.cwd())
    with _terminal_back(), _left_to_the_command(signal.SIGINT, signal.SIGQUIT):
        for is_apart in (True, False):
            status = _run(errand, is_apart=is_apart)
            if status is not None:
                return status
    raise UnavailableError("the command's keeper ended before it began")


@dataclass(frozen=True, slots=True)
class _Errand:
    session: Session
    command: tuple[str, ...]
    environment: dict[str, str]
    folder: Path


def _run(errand: _Errand, *, is_apart: bool) -> int | None:
    """The command's status; None where it cannot be run like that."""
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    caller = os.getpid()
    keeper = os.fork()
    if keeper == 0:
        os.close(ours)
        _end_with(lambda: _keep(errand, Report(theirs), caller, is_apart=is_apart))
    os.close(theirs)
    try:
        said = os.read(ours, _REPORT_LIMIT_BYTES)
        status = _await(keeper)
    except BaseException:
        os.kill(keeper, signal.SIGKILL)
        _await(keeper)
        raise
    finally:
        os.close(ours)
    row = json.loads(said) if said else {}
    if "error" in row:
        raise revived(row)
    return None if is_apart and not said and status == _NOT_APART else status


def _keep(errand: _Errand, report: Report, caller: int, *, is_apart: bool) -> int:
    """In the keeper's process: the namespaces, then the command in them."""
    try:
        enter_private_namespace()
        linux.die_with_parent()  # only now: a process that gets other rights loses the tie
        if os.getppid() != caller:
            return 1
        if not is_apart:
            linux.adopt_orphans()
            try:
                return _work(errand, report)
            finally:
                _end_descendants()
        try:
            linux.unshare(linux.CLONE_NEWPID)
        except OSError:
            return _NOT_APART
        return _in_first_process(lambda: _work_apart(errand, report))
    except CvmError as error:
        report.failed(error)
    except OSError as error:
        report.failed(from_os(error))
    return 1


def _in_first_process(work: Callable[[], int]) -> int:
    """Fork what becomes the first process of the new process namespace, and wait for it."""
    leash, held = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(held)
        linux.die_with_parent()
        if select.select([leash], [], [], 0)[
            0
        ]:  # whoever holds the leash died before the tie was made
            os._exit(1)
        _end_with(work)
    os.close(leash)
    return _await(first)


def _work_apart(errand: _Errand, report: Report) -> int:
    try:
        linux.mount("proc", "/proc", "proc", flags=_PROC_FLAGS)
    except OSError:
        return _NOT_APART
    try:
        return _work(errand, report)
    except CvmError as error:
        report.failed(error)
    except OSError as error:
        report.failed(from_os(error))
    return 1


def _work(errand: _Errand, report: Report) -> int:
    session = errand.session
    records = session.base.run / "mounts"
    records.mkdir(parents=True, exist_ok=True)
    cover(records)  # they are this namespace's own
    show_folders(session.base.point.parent, [session.base.point.name])
    mount = functools.partial(_mount, session.store)
    serve_beside([session.base], session.logs, mount=mount)
    lay_over(session.writable, session.writable, session.place)
    report.ready({})
    command = os.fork()
    if command == 0:
        _become(errand)
    return _reap(command)


def _mount(store: ObjectStore, settings: MountSettings, ready: Callable[..., None]) -> None:
    mount_base(settings, store, ready)


def _become(errand: _Errand) -> Never:
    """In the command's process: execute it as it would have been without us."""
    try:
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with suppress(OSError):
            os.chdir(errand.folder)
        name = errand.command[0]
        program = shutil.which(name, path=errand.environment.get("PATH"))
        if program is None and "/" not in name:
            _refuse(name, "command not found", _NOT_FOUND)
        try:
            os.execve(program or name, errand.command, errand.environment)  # noqa: S606
        except OSError as error:
            is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            status = _NOT_FOUND if is_missing else _NOT_EXECUTABLE
            _refuse(name, error.strerror or str(error), status)
    finally:
        os._exit(1)


def _refuse(program: str, reason: str, status: int) -> Never:
    os.write(2, f"cvm: {program}: {reason}\n".encode(errors="replace"))
    os._exit(status)


def _reap(command: int) -> int:
    """Wait for the command, and meanwhile for all whose parents ended before them."""
    while True:
        pid, status = os.wait()
        if pid == command:
            return _shell_status(status)


def _await(pid: int) -> int:
    return _shell_status(os.waitpid(pid, 0)[1])


def _shell_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _end_descendants() -> None:
    """Kill what the command left running; every orphan becomes this process's child in turn."""
    while True:
        children = Path("/proc/thread-self/children").read_text().split()
        if not children:
            return
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        with suppress(ChildProcessError):
            os.wait()


def _end_with(work: Callable[[], int]) -> Never:
    """Do the work and end this process: nothing may come back from a fork into its parent's code."""
    status = 1
    try:
        status = work()
    except BaseException:
        logger.exception("edit.failed")
        raise
    finally:
        os._exit(status)


@contextmanager
def _left_to_the_command(*numbers: signal.Signals) -> Iterator[None]:
    """Ignore the terminal's signals, which go to all who share it; the command decides what they mean."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _terminal_back() -> Iterator[None]:
    """Take the terminal back at the end: a shell takes it, and in a namespace of its own cannot give it back."""
    terminal = -1  # where there is none
    with suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    is_ours = terminal >= 0 and os.tcgetpgrp(terminal) == os.getpgrp()
    try:
        yield
    finally:
        if is_ours:
            before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            with suppress(OSError):
                os.tcsetpgrp(terminal, os.getpgrp())
            signal.signal(signal.SIGTTOU, before)
        if terminal >= 0:
            os.close(terminal)
