"""Process 1 of an instance: one loop that starts the command, shows its output, reaps, and ends all when told to.

Also runs as any other process, for tests and for images whose process 1 is another; then it ends only what it
started. Everything is in one thread but the contextualization, so that signals and zombies never wait for it.
A command that crashed or was killed is started again, after a pause that grows; one that exited, or was asked to end
by a signal, is not.
"""

from __future__ import annotations

import logging
import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cernvm.core.errors import CvmError
from cernvm.core.log import fields
from cernvm.guest.child import CommandProcess, start_command
from cernvm.guest.contextualize import Contextualized
from cernvm.guest.machine import Machine
from cernvm.guest.plan import Launch
from cernvm.guest.status import CommandStatus, State, Status, write_status

END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGPWR)
GRACE_S = 4.0  # of the 5 s in which an instance must be gone
ASKED_TO_END = {-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, -signal.SIGPIPE}
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
COMMAND_LOG = Path("/var/log/cernvm/context.log")
_MAX_LOG_BYTES = 10 << 20

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Init:
    """The loop and what it looks after."""

    contextualize: Callable[[], Contextualized]
    machine: Machine
    console: Callable[[str], None]
    command_log: Path = COMMAND_LOG
    status: Status = field(default_factory=lambda: Status(State.SEARCHING))
    command: CommandProcess | None = None
    _end: int = 0
    _launch: Launch | None = None
    _start_at: float = math.inf  # of the command, on the monotonic clock
    _started_at: float = 0.0
    _pause_s: float = FIRST_PAUSE_S
    _selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)

    def run(self) -> int:
        """Contextualize, then look after the instance until a signal ends it; returns the exit status."""
        wakeup, woken = socket.socketpair()
        for end in (wakeup, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        for number in (*END_SIGNALS, signal.SIGCHLD):
            signal.signal(number, self._note)
        self._selector.register(wakeup, selectors.EVENT_READ)
        pool = ThreadPoolExecutor(1, thread_name_prefix="contextualize")
        job = pool.submit(self.contextualize)
        job.add_done_callback(lambda _job: woken.send(b"\0"))
        started = False
        while not self._end:
            self._wait(wakeup, timeout_s=self._until_start())
            self._reap()
            if self._launch and time.monotonic() >= self._start_at:
                self._start(self._launch)
            if job.done() and not started:
                started = True
                pool.shutdown(wait=False)
                self._go_on(job)
        log.info("init.ending", extra=fields(signal=signal.Signals(self._end).name))
        self._end_all(wakeup)
        log.info("init.ended")
        return 0

    def _note(self, number: int, _frame: object) -> None:
        if number in END_SIGNALS:
            self._end = number

    def _wait(self, wakeup: socket.socket, *, timeout_s: float | None) -> None:
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is wakeup:
                wakeup.recv(4096)
            else:
                self._show_output()

    def _go_on(self, job: Future[Contextualized]) -> None:
        """What follows the contextualization: the command, or a loud word on the console."""
        if error := job.exception():
            log.critical("context.crashed", exc_info=error)
            self._fail(f"{type(error).__name__}: {error}")
            return
        done = job.result()
        self.status = done.status
        if done.launch:
            self._launch = done.launch
            self._start(done.launch)
        if self.status.state is not State.DONE:
            self._fail(self.status.reason or self.status.state)

    def _until_start(self) -> float | None:
        return None if math.isinf(self._start_at) else max(0, self._start_at - time.monotonic())

    def _start(self, launch: Launch) -> None:
        self._start_at, self._started_at = math.inf, time.monotonic()
        user, program = launch.command.user, launch.command.argv[0]
        try:
            command = start_command(launch)
        except CvmError as error:
            self._record(CommandStatus(user, program, "not started"), str(error))
            return
        self.command = command
        self._selector.register(command.output, selectors.EVENT_READ)
        pid = command.process.pid
        log.info("command.started", extra=fields(user=user, program=program, pid=pid))
        self._record(CommandStatus(user, program, "running", pid))

    def _show_output(self) -> None:
        if self.command is None:
            return
        lines = self.command.read_lines()
        if lines is None:
            self._close_output(self.command)
            return
        for line in lines:
            self.console(f"{self.command.user}| {line}")
        self._keep(lines)

    def _close_output(self, command: CommandProcess) -> None:
        if not command.output.closed:
            self._selector.unregister(command.output)
            command.output.close()

    def _keep(self, lines: list[str]) -> None:
        """Append to the command's log, of which at most two files of `_MAX_LOG_BYTES` are kept."""
        try:
            self.command_log.parent.mkdir(parents=True, exist_ok=True)
            with self.command_log.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
                is_full = file.tell() > _MAX_LOG_BYTES
            if is_full:
                self.command_log.replace(self.command_log.with_suffix(".log.1"))
        except OSError as error:
            log.warning("command.log_lost", extra=fields(error=error))

    def _reap(self) -> None:
        """Bury every child that has ended: the command, and the orphans that fall to process 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.command and pid == self.command.process.pid:
                self._command_ended(self.command, os.waitstatus_to_exitcode(status))

    def _command_ended(self, command: CommandProcess, exit_status: int) -> None:
        command.process.returncode = exit_status  # reaped here, so Popen must not wait for it
        log.log(
            logging.INFO if exit_status == 0 or self._end else logging.ERROR,
            "command.ended",
            extra=fields(user=command.user, program=command.program, exit_status=exit_status),
        )
        pid = command.process.pid
        self._record(CommandStatus(command.user, command.program, "ended", pid, exit_status))
        if exit_status < 0 and exit_status not in ASKED_TO_END and not self._end:
            self._close_output(command)  # a process it left behind may hold it open
            self._start_again(time.monotonic())

    def _start_again(self, now: float) -> None:
        if now - self._started_at > LONGEST_PAUSE_S:
            self._pause_s = FIRST_PAUSE_S
        self._start_at = now + self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)

    def _record(self, command: CommandStatus, reason: str = "") -> None:
        self.status = self.status.with_command(command, reason)
        try:
            write_status(self.status, self.machine)
        except OSError as error:
            log.warning("status.lost", extra=fields(error=error))

    def _fail(self, reason: str) -> None:
        """Say on the console, so that nobody can overlook it, that this instance does not play its role."""
        bar = "*" * 78
        for line in (bar, f"CONTEXT FAILED: {reason}", "see python3 -m cernvm.guest.status", bar):
            self.console(line)

    def _end_all(self, wakeup: socket.socket) -> None:
        """Ask every process to end, and kill what is left after the grace."""
        deadline = time.monotonic() + GRACE_S
        self._signal_all(signal.SIGTERM)
        self._signal_all(signal.SIGCONT)
        while self._is_busy() and (left_s := deadline - time.monotonic()) > 0:
            self._wait(wakeup, timeout_s=min(left_s, 0.5))
        if self._is_busy():
            log.warning("init.killing")
            self._signal_all(signal.SIGKILL)
            kill_deadline = time.monotonic() + 0.5
            while self._is_busy() and (left_s := kill_deadline - time.monotonic()) > 0:
                self._wait(wakeup, timeout_s=min(left_s, 0.1))
        self._wait(wakeup, timeout_s=0)  # last words

    def _signal_all(self, number: signal.Signals) -> None:
        try:
            if os.getpid() == 1:
                os.kill(-1, number)  # all of this PID namespace but process 1
            elif self.command:
                os.killpg(self.command.process.pid, number)
        except ProcessLookupError:
            pass

    def _is_busy(self) -> bool:
        """Whether anything is left to wait for: any child of process 1, else the command's process group."""
        self._reap()
        try:
            if os.getpid() == 1:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            elif self.command:
                os.killpg(self.command.process.pid, 0)
            else:
                return False
        except (ChildProcessError, ProcessLookupError):
            return False
        return True
