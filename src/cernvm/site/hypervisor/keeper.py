"""The site's hold on one container: its launcher, the socket to it, and a descriptor of its process 1.

Blocking; `ContainerHypervisor` calls it from threads.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cernvm.core.errors import (
    CvmError,
    DeadlineError,
    NotFoundError,
    UnavailableError,
)
from cernvm.core.process import start_child
from cernvm.site.hypervisor.order import (
    ENDED,
    FAILED,
    GO,
    NAMESPACES,
    RUNNING,
    START_INIT,
    STOP,
    Order,
    receive,
    send,
)
from cernvm.site.hypervisor.port import MachineSpec, MachineState, Phase
from cernvm.site.refusal import refusal

START_TIMEOUT_S = 60.0  # the first look at a tree may fetch catalogs over a slow network
_KILL_TIMEOUT_S = 5.0
_LAUNCHER = "cernvm.site.hypervisor.launch"

Launcher = subprocess.Popen[bytes]
Spawn = Callable[[list[str], int, Path], Launcher]  # command, descriptor to hand over, log
Attach = Callable[[int], None]  # network namespace


class Container:
    """A container that was started; made by `start_container`.

    Concurrency: any thread; `stop` may wait while others look at `state`.
    """

    def __init__(self, launcher: Launcher, site: socket.socket, init: int) -> None:
        self._launcher, self._site, self._init = launcher, site, init
        self._lock = threading.Lock()
        self._end: MachineState | None = None
        self._stop_requested = False

    @property
    def state(self) -> MachineState:
        """How it is now."""
        with self._lock:
            if (
                self._end is None
                and self._launcher.poll() is not None
                and _has_ended(self._init, 0)
            ):
                self._end = self._settle()
            return self._end or MachineState(Phase.RUNNING)

    def stop(self, *, grace_s: float) -> None:
        """Have it end, at the latest after `grace_s`.

        Errors: `DeadlineError` should even the kernel not end it.
        """
        if not self.state.is_running:
            return
        self._stop_requested = True
        try:
            send(self._site, STOP, grace_s=grace_s)
            self._launcher.wait(grace_s + _KILL_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            _end_launcher(self._launcher)  # and with it, by the kernel, process 1
        with self._lock:
            if self._end is None:
                if not _has_ended(self._init, _KILL_TIMEOUT_S):
                    raise DeadlineError("ending an instance", after_s=grace_s + 2 * _KILL_TIMEOUT_S)
                self._end = self._settle()

    def _settle(self) -> MachineState:
        """What its launcher said last; called once, with the lock, when both are gone."""
        values, _ = receive(self._site)
        self._site.close()
        os.close(self._init)
        if self._stop_requested:
            return MachineState(Phase.STOPPED, "stopped by request")
        if values.get("what") != ENDED:
            return MachineState(Phase.FAILED, "its launcher was killed")
        if os.WIFSIGNALED(values["status"]):
            name = signal.Signals(os.WTERMSIG(values["status"])).name
            return MachineState(Phase.FAILED, f"init was killed by {name}")
        status = os.WEXITSTATUS(values["status"])
        phase = Phase.STOPPED if status == 0 else Phase.FAILED
        return MachineState(phase, f"init ended with status {status}")


def start_container(
    spec: MachineSpec, folder: Path, *, spawn: Spawn, attach: Attach, console: Path
) -> Container:
    """Bring an instance up with its layer in `folder`; returns when its init runs.

    Errors: as `Hypervisor.start`; nothing is left running then.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise refusal(f"{spec.instance_id} cannot start", error.errno, str(folder)) from error
    log = folder / "launch.log"
    command = [sys.executable, "-I", "-m", _LAUNCHER, str(theirs.fileno()), str(console)]
    try:
        with theirs:
            launcher = spawn(command, theirs.fileno(), log)
    except OSError as error:
        ours.close()
        raise refusal(f"{spec.instance_id} cannot start", error.errno, str(log)) from error
    try:
        return Container(launcher, ours, _converse(spec, folder, ours, attach, log))
    except BaseException:
        ours.close()
        _end_launcher(launcher)
        raise


def _converse(
    spec: MachineSpec, folder: Path, site: socket.socket, attach: Attach, log: Path
) -> int:
    """The site's half of `order`; returns the descriptor of process 1."""
    end = time.monotonic() + START_TIMEOUT_S

    def hear(expected: str) -> int:
        site.settimeout(max(0.001, end - time.monotonic()))
        try:
            values, descriptor = receive(site)
        except TimeoutError:
            raise DeadlineError(f"starting {spec.instance_id}", after_s=START_TIMEOUT_S) from None
        if values.get("what") != expected or descriptor is None:
            raise _start_error(spec, values, log)
        return descriptor

    order = Order(
        instance_id=spec.instance_id,
        hostname=spec.hostname,
        root=str(spec.root),
        folder=str(folder),
        repositories={name: str(path) for name, path in spec.repositories.items()},
        init=list(spec.init),
    )
    send(site, "order", order=order._asdict())
    network = hear(NAMESPACES)
    try:
        attach(network)
    finally:
        os.close(network)
    send(site, GO)
    return hear(RUNNING)


def _start_error(spec: MachineSpec, values: dict[str, Any], log: Path) -> CvmError:
    """What a failed step means to the person who wanted the instance."""
    if values.get("what") != FAILED:
        last = log.read_text("utf-8", "replace").strip().rpartition("\n")[2] if log.exists() else ""
        return UnavailableError(
            f"the launcher of {spec.instance_id} ended before its time: {last or 'it was killed'}",
            advice=f"see {log}",
        )
    number, step, path = values["errno"], values["step"], values["path"]
    if step == START_INIT and number in (errno.ENOENT, errno.EACCES, errno.ENOEXEC):
        return NotFoundError(
            "program",
            spec.init[0],
            advice=f"the operating system below {spec.root} must bring it, executable",
        )
    return refusal(f"{spec.instance_id} cannot start: {step}", number, path)


def _has_ended(process: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _end_launcher(launcher: Launcher) -> None:
    launcher.kill()
    with suppress(subprocess.TimeoutExpired):
        launcher.wait(_KILL_TIMEOUT_S)


def spawn_launcher(command: list[str], descriptor: int, log: Path) -> Launcher:
    """Start a launcher tied to the calling thread, with nothing of the site's environment."""
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
    log.unlink(missing_ok=True)
    return start_child(command, log=log, env=environment, cwd=Path("/"), pass_fds=(descriptor,))
