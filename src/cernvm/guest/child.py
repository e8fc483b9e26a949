"""The contextualization command as a process: started as its user, its output read line by line."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from dataclasses import dataclass, field
from typing import IO

from cernvm.core.errors import CvmError, NotFoundError
from cernvm.guest.plan import Launch

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/games"
_MAX_LINE_BYTES = 4096
_READ_BYTES = 65536


@dataclass(slots=True)
class CommandProcess:
    """A running command, leader of its own session."""

    user: str
    program: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    rest: bytes = field(default=b"", repr=False)

    def read_lines(self) -> list[str] | None:
        """Whole lines that are there to read, without control characters; None once no writer is left.

        An endless line comes in pieces. Concurrency: one reader.
        """
        try:
            chunk = os.read(self.output.fileno(), _READ_BYTES)
        except BlockingIOError:
            return []
        if not chunk:
            last, self.rest = self.rest, b""
            return [_printable(last)] if last else None
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        if len(self.rest) > _MAX_LINE_BYTES:
            lines.append(self.rest)
            self.rest = b""
        return [_printable(piece) for line in lines for piece in _pieces(line)]


def start_command(launch: Launch) -> CommandProcess:
    """Start the command as its user, with only the context's environment and no open file of ours.

    Errors: `NotFoundError` without the user; `CvmError` when the program cannot be started.
    """
    user = launch.command.user
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise NotFoundError("user", user) from None
    groups = [group.gr_gid for group in grp.getgrall() if user in group.gr_mem]
    environment = {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "HOME": account.pw_dir,
        "USER": user,
        "LOGNAME": user,
        "SHELL": account.pw_shell or "/bin/sh",
        **dict(launch.environment),
    }
    try:
        process = subprocess.Popen(
            launch.command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=account.pw_dir,
            env=environment,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[account.pw_gid, *groups],
            umask=0o022,
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CvmError(f"{launch.command.argv[0]} cannot be started: {reason}") from error
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    return CommandProcess(user, launch.command.argv[0], process, process.stdout)


def _pieces(line: bytes) -> list[bytes]:
    starts = range(0, len(line), _MAX_LINE_BYTES)
    return [line[start : start + _MAX_LINE_BYTES] for start in starts] or [b""]


def _printable(line: bytes) -> str:
    text = line.decode("utf-8", "replace").rstrip("\r").expandtabs()
    return "".join(letter if letter.isprintable() else "?" for letter in text)
