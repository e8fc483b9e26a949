"""Saying a command to a client's socket, ours or the original's.

Source: docs/formats/talk.md
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeadlineError, MessageFormatError, NotFoundError

MAX_ANSWER_BYTES = 16 * 1024 * 1024

_QUEUED_S = 0.02


def say(path: Path, command: str, *, deadline_s: float) -> str:
    """What the client that listens at `path` answers.

    Errors: `NotFoundError` when nobody listens there, `DeadlineError`; `MessageFormatError` for an endless answer.
    """
    deadline = Deadline.after(deadline_s)
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(deadline_s)
            connect(channel, path, deadline)
            channel.sendall(command.encode())
            while part := channel.recv(65536):
                answer += part
                channel.settimeout(max(deadline.remaining_s, 0.001))
                if len(answer) > MAX_ANSWER_BYTES:
                    raise MessageFormatError("it does not end", where=f"answer at {path}")
    except TimeoutError:
        raise DeadlineError(f"the answer at {path}", after_s=deadline_s) from None
    except OSError as error:
        raise NotFoundError("client listening at", str(path)) from error
    return answer.decode("utf-8", "replace")


def connect(channel: socket.socket, path: Path, deadline: Deadline) -> None:
    """Connect to the socket at `path`; one whose queue is full is living, and asked again.

    Errors: `TimeoutError`, `OSError`.
    """
    with short_name(path) as name:
        while True:
            try:
                channel.connect(name)
            except BlockingIOError:
                if deadline.has_passed:
                    raise TimeoutError from None
                time.sleep(_QUEUED_S)
            else:
                return


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """A name for a socket's path, which may be longer than the 107 bytes that a socket's address holds."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
