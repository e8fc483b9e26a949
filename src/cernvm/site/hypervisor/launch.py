"""The launcher: one light process per instance, which makes its namespaces, becomes its keeper, and ends with it.

`python -I -m cernvm.site.hypervisor.launch FD FILE` speaks `order` on socket FD and writes the console to FILE. Three
processes are tied together: the kernel kills this one when the site's thread ends, and the instance's process 1 when
this one ends, and with process 1 everything in its PID namespace.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from cernvm.core.linux import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    die_with_parent,
    sethostname,
    unshare,
)
from cernvm.site.hypervisor.confine import become_init
from cernvm.site.hypervisor.order import (
    ENDED,
    FAILED,
    NAMESPACES,
    RUNNING,
    START_INIT,
    STOP,
    Order,
    receive,
    send,
)
from cernvm.site.hypervisor.root import STEPS

CONSOLE_KEEP_BYTES = 64 * 1024
_CONSOLE_LIMIT_BYTES = 4 * CONSOLE_KEEP_BYTES
_READ_BYTES = 64 * 1024
_ASK_AGAIN_MS = 20


class StepError(Exception):
    """One step of bringing an instance up failed; becomes the `failed` message."""

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(step)
        self.values: dict[str, Any] = {
            "step": step,
            "errno": error.errno,
            "path": error.filename or "",
        }


def main() -> None:
    """Launch one instance, keep it until it ends, and say how it ended."""
    site = socket.socket(fileno=int(sys.argv[1]))
    site.set_inheritable(False)
    os.setsid()  # Ctrl-C at the site's terminal is the site's business
    values, _ = receive(site)
    if not values:
        return
    order = Order(**values["order"])
    try:
        _make_namespaces(site, order)
        if not receive(site)[0]:
            return
        init, console = _start_init(order)
    except StepError as error:
        send(site, FAILED, **error.values)
        return
    send(site, RUNNING, descriptor=init.descriptor)
    _keep(site, init, Console(console, sys.argv[2]))
    _, status = os.waitpid(init.pid, 0)
    with suppress(OSError):  # the site may be gone
        send(site, ENDED, status=status)


def _make_namespaces(site: socket.socket, order: Order) -> None:
    try:
        unshare(CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID)
        sethostname(order.hostname)
        network = os.open("/proc/self/ns/net", os.O_RDONLY)
    except OSError as error:
        raise StepError("make the namespaces", error) from None
    send(site, NAMESPACES, descriptor=network)
    os.close(network)


def _start_init(order: Order) -> tuple[Init, int]:
    """Fork process 1; returns it and the read end of its console once it has become the instance's init."""
    console_read, console_write = os.pipe()
    report_read, report_write = os.pipe()
    alive_read, alive_write = os.pipe()
    init = os.fork()
    if init == 0:
        die_with_parent()
        os.close(alive_write)
        if not os.read(alive_read, 1):
            os._exit(1)  # the launcher was gone before the tie was made
        _become_init(order, console_write, report_write)
    for descriptor in (console_write, report_write, alive_read):
        os.close(descriptor)
    os.write(alive_write, b"1")
    os.close(alive_write)
    report = b""
    while part := os.read(
        report_read, _READ_BYTES
    ):  # ends when init is executed, which closes the other end
        report += part
    os.close(report_read)
    if report:
        os.waitpid(init, 0)
        raise _failure(json.loads(report))
    return Init(init), console_read


def _become_init(order: Order, console: int, report: int) -> NoReturn:
    """Go through the steps and execute init; a step that fails is reported and ends this process."""
    step = ""
    try:
        for step, function in STEPS:  # noqa: B007  # told when it fails
            function(order)
        step = START_INIT
        become_init(order.init, console=console)
    except OSError as error:
        os.write(report, json.dumps(StepError(step, error).values).encode())
    os._exit(1)


def _failure(values: dict[str, Any]) -> StepError:
    return StepError(values["step"], OSError(values["errno"], "", values["path"]))


def _keep(site: socket.socket, init: Init, console: Console) -> None:
    """Write the console and heed the site until init has ended."""
    poll = select.poll()
    for descriptor in (site.fileno(), init.descriptor, console.source):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(init.next_look_ms())}
        if console.source in ready and not console.copy():
            poll.unregister(console.source)
        if init.descriptor in ready:
            console.copy_rest()
            return
        if site.fileno() in ready:
            values, _ = receive(site)
            if values.get("what") == STOP:
                init.stop_within(values["grace_s"])
            else:  # the site is gone
                poll.unregister(site.fileno())
                init.stop_within(0)


class Init:
    """The instance's process 1, and how far its ending has come."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.descriptor = os.pidfd_open(pid)
        self._kill_at: float | None = None
        self._was_asked = False

    def stop_within(self, grace_s: float) -> None:
        """Ask it to end, and see to it after the grace."""
        self._kill_at = time.monotonic() + grace_s

    def next_look_ms(self) -> int | None:
        """Do what is due by now; returns when something will be, None for never."""
        if self._kill_at is None:
            return None
        left_s = self._kill_at - time.monotonic()
        if left_s <= 0:
            signal.pidfd_send_signal(self.descriptor, signal.SIGKILL)
            self._kill_at = None
            return None
        if not self._was_asked and self._heeds_request():
            signal.pidfd_send_signal(self.descriptor, signal.SIGTERM)
            self._was_asked = True
        return int(left_s * 1000) + 1 if self._was_asked else _ASK_AGAIN_MS

    def _heeds_request(self) -> bool:
        """Whether it has come so far as to catch SIGTERM: the kernel drops what a process 1 does not catch."""
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as file:
            caught = next((line for line in file if line.startswith("SigCgt:")), "SigCgt: 0")
        return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


class Console:
    """What an instance writes, copied from a pipe to a file of bounded size: the instance never holds the file."""

    def __init__(self, source: int, path: str) -> None:
        os.set_blocking(source, False)
        self.source = source
        self._path = path
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # for the life of the process

    def copy(self) -> bool:
        """Copy what is there now; False once all writers are gone."""
        try:
            part = os.read(self.source, _READ_BYTES)
        except BlockingIOError:
            return True
        try:
            self._file.write(part)
            if self._file.tell() > _CONSOLE_LIMIT_BYTES:
                self._shorten()
        except OSError:
            pass  # a full disk loses console lines, never the instance
        return bool(part)

    def copy_rest(self) -> None:
        """Copy all that is left after the end."""
        deadline = time.monotonic() + 1
        while self.copy() and time.monotonic() < deadline:
            select.select([self.source], [], [], 0.05)

    def _shorten(self) -> None:
        """Keep the end only; readers see the old file or the new."""
        with open(self._path, "rb") as old:
            old.seek(-CONSOLE_KEEP_BYTES, os.SEEK_END)
            rest = old.read()
        temporary = f"{self._path}.new"
        new = open(temporary, "wb", buffering=0)  # noqa: SIM115  # becomes the file
        new.write(rest)
        Path(temporary).rename(self._path)
        self._file.close()
        self._file = new


if __name__ == "__main__":
    main()
