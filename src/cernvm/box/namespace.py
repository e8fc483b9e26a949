"""A world of its own for an ordinary user: one user, mount and PID namespace around the whole demo.

Inside, the user is root over a subordinate range of accounts, may mount, and sees only own processes; all of it ends
with the first process. The network is left for later (`isolate_network`), since building releases needs the host's.
Source: user_namespaces(7), newuidmap(1), subuid(5).
"""

from __future__ import annotations

import fcntl
import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from types import FrameType
from typing import NoReturn

from cernvm.core import linux
from cernvm.core.errors import PrerequisiteError

MIN_SUBORDINATE_IDS = (
    65535  # so that every account of a Debian release, nobody (65534) included, exists inside
)
_MAP_DEADLINE_S = 10.0
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


@dataclass(frozen=True, slots=True)
class SubordinateRange:
    """Accounts that /etc/subuid or /etc/subgid lends to a user."""

    start: int
    count: int


def in_user_namespace() -> bool:
    """Whether this process is root of a user namespace only, not of the machine."""
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]


def check_namespaces(uid: int) -> tuple[SubordinateRange, SubordinateRange]:
    """The subordinate user and group ids of an ordinary user, if namespaces with several accounts can be made.

    Errors: `PrerequisiteError` naming what is missing.
    """
    for program in ("newuidmap", "newgidmap"):
        if which(program) is None:
            raise PrerequisiteError(
                f"the program {program} is missing, without which there is one account only in a namespace",
                advice="ask an administrator for: apt-get install uidmap; or run as root",
            )
    for setting, refused in _SWITCHES.items():
        path = Path("/proc/sys") / setting
        if path.is_file() and path.read_text().strip() == refused:
            raise PrerequisiteError(
                f"this machine gives ordinary users no user namespaces ({setting.replace('/', '.')} = {refused})",
                advice="ask an administrator to allow them, or run as root",
            )
    name = _account_name(uid)
    return _range_of(Path("/etc/subuid"), name, uid), _range_of(Path("/etc/subgid"), name, uid)


_SWITCHES = {
    "user/max_user_namespaces": "0",
    "kernel/unprivileged_userns_clone": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",
}


def run_in_namespace(command: Sequence[str]) -> int:
    """Run a command as the first process of a new user, mount and PID namespace; returns its exit code.

    Nothing survives it: when the command ends, or this process is killed, the kernel ends all that it started.
    SIGINT reaches the command through the terminal, SIGTERM is passed on.
    Errors: `PrerequisiteError` where the kernel or the account refuses.
    Concurrency: only from a process with one thread.
    """
    uid_range, gid_range = check_namespaces(os.getuid())
    wait_for_map, map_done = os.pipe()
    unshared, tell_unshared = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    keeper = os.fork()
    if keeper == 0:
        os.close(map_done)
        os.close(unshared)
        _keep(command, tell_unshared=tell_unshared, wait_for_map=wait_for_map)
    os.close(wait_for_map)
    os.close(tell_unshared)
    try:
        answer = os.read(unshared, 256)
        if answer != _READY:
            raise PrerequisiteError(
                f"this machine lets you make no user namespace ({answer.decode(errors='replace') or 'it ended'})",
                advice="ask an administrator to allow them, or run as root",
            )
        _write_map("newuidmap", keeper, os.getuid(), uid_range)
        _write_map("newgidmap", keeper, os.getgid(), gid_range)
        os.write(map_done, _READY)
        return _wait(keeper)
    except BaseException:
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)
        raise
    finally:
        os.close(map_done)
        os.close(unshared)


def isolate_network() -> None:
    """Leave the host's network for a new one with nothing but loopback.

    Concurrency: call from the main thread before others exist; children started by it afterwards are inside.
    """
    linux.unshare(linux.CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
        flags = struct.unpack("16sh14x", answer)[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


_READY = b"ready"


def _keep(command: Sequence[str], *, tell_unshared: int, wait_for_map: int) -> NoReturn:
    """The process between both worlds: owns the namespaces, starts the first process inside, and waits for it."""
    status, parent = 1, os.getppid()
    try:
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWPID)
        os.write(tell_unshared, _READY)
        if os.read(wait_for_map, len(_READY)) == _READY:
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            linux.die_with_parent()  # after the change of credentials, which would clear it
            if os.getppid() != parent:
                os._exit(status)
            first = os.fork()
            if first == 0:
                _become(command)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda number, _frame: os.kill(first, number))
            status = _exit_code(os.waitpid(first, 0)[1])
    except OSError as error:
        os.write(tell_unshared, (error.strerror or str(error)).encode())
    finally:
        os._exit(status)


def _become(command: Sequence[str]) -> NoReturn:
    """The first process inside: private mounts, its own /proc, then the command."""
    try:
        linux.die_with_parent()
        linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
        linux.mount(
            "proc", "/proc", "proc", flags=linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
        )
        os.execvp(command[0], list(command))  # noqa: S606
    except OSError as error:
        print(f"cvm: the namespace cannot be set up: {error}", file=sys.stderr)  # noqa: T201
    finally:
        os._exit(127)


def _wait(keeper: int) -> int:
    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(keeper, number)

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, forward),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    try:
        return _exit_code(os.waitpid(keeper, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _write_map(program: str, pid: int, own: int, lent: SubordinateRange) -> None:
    """Root inside is this user outside; accounts 1 to `count` inside are the lent range."""
    rows = [0, own, 1, 1, lent.start, lent.count]
    try:
        done = subprocess.run(
            [program, str(pid), *map(str, rows)],
            capture_output=True,
            timeout=_MAP_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PrerequisiteError(f"{program} could not be run: {error}") from None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()
        raise PrerequisiteError(
            f"{program} refused to lend accounts: {reason[:300]}",
            advice="check that newuidmap and newgidmap are set-user-id, and /etc/subuid and /etc/subgid",
        )


def _range_of(path: Path, name: str, uid: int) -> SubordinateRange:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        lines = []
    rows = [line.split(":") for line in lines]
    for row in rows:
        if len(row) == 3 and row[0] in (name, str(uid)) and row[1].isdigit() and row[2].isdigit():
            found = SubordinateRange(int(row[1]), int(row[2]))
            if found.count >= MIN_SUBORDINATE_IDS:
                return found
    raise PrerequisiteError(
        f"{path} lends the account {name} no {MIN_SUBORDINATE_IDS} subordinate ids",
        advice=f"ask an administrator for: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}",
    )


def _account_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
