"""Asking a live mount about itself over a unix socket: one JSON line each way.

The server answers from memory in threads of its own, so that it answers while the network, or every reader of the
mount, hangs; both sides give up after a few seconds.
Source: docs/formats/mount-control.md
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cernvm.core.clock import Deadline
from cernvm.core.errors import (
    CvmError,
    DeadlineError,
    InvalidInputError,
    MessageFormatError,
    NotFoundError,
    UnavailableError,
)
from cernvm.core.log import fields
from cernvm.fs.mount.talk_client import connect, short_name

QUESTION_LIMIT_BYTES = 64 * 1024
ANSWER_LIMIT_BYTES = 1024 * 1024
EXCHANGE_DEADLINE_S = 5.0

_AT_ONCE = 8
_PAUSE_S = 0.2
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)

Question = Mapping[str, Any]
Answers = Mapping[str, Callable[[Question], Mapping[str, Any]]]

log = logging.getLogger(__name__)


def ask(
    path: Path, question: Question, *, deadline_s: float = EXCHANGE_DEADLINE_S
) -> dict[str, Any]:
    """The answer of the mount whose control socket is `path`.

    Errors: `NotFoundError` when nobody listens there, `DeadlineError`, `MessageFormatError`; `UnavailableError` with
    the mount's own words when it could not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(deadline_s)
            connect(channel, path, Deadline.after(deadline_s))
            channel.sendall(json.dumps(question).encode() + b"\n")
            line = _receive_line(channel, ANSWER_LIMIT_BYTES)
    except TimeoutError:
        raise DeadlineError("the answer of the mount's process", after_s=deadline_s) from None
    except OSError as error:
        raise NotFoundError("mount listening at", str(path)) from error
    reply = _parse(line)
    if "error" in reply:
        raise UnavailableError(str(reply["error"]), advice=str(reply.get("advice", "")))
    return reply


class ControlServer:
    """Answers questions on a unix socket, of its owner only, until it is closed."""

    def __init__(self, path: Path, answers: Answers) -> None:
        self._answers = answers
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self._path = path
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            with short_name(path) as name:
                self._listener.bind(name)
        finally:
            os.umask(mask)
        self._listener.listen(_AT_ONCE)
        self._is_closed = False
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        threading.Thread(target=self._accept, name="mount-control", daemon=True).start()

    def close(self) -> None:
        """Stop listening; an answer under way may be cut."""
        self._is_closed = True
        self._path.unlink(missing_ok=True)
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept, which close alone does not
        self._listener.close()

    def _accept(self) -> None:
        while not self._is_closed:
            self._places.acquire()
            try:
                channel, _ = self._listener.accept()
            except OSError as error:
                self._places.release()
                if error.errno in _NO_DESCRIPTOR and not self._is_closed:
                    self._answer_with_spare()
                elif not self._is_closed and error.errno not in (errno.EBADF, errno.EINVAL):
                    time.sleep(_PAUSE_S)
                continue
            self._answer(channel)
        self._let_spare_go()

    def _answer(self, channel: socket.socket) -> None:
        try:
            threading.Thread(
                target=self._serve, args=(channel,), name="mount-answer", daemon=True
            ).start()
        except RuntimeError:  # no more threads: the next asker waits
            self._serve(channel)

    def _answer_with_spare(self) -> None:
        """All descriptors are taken: one is kept for whoever asks why."""
        self._let_spare_go()
        try:
            self._listener.settimeout(_PAUSE_S)
            channel, _ = self._listener.accept()
            self._places.acquire()
            self._serve(channel)
        except OSError as error:
            log.warning("control.pressed", extra=fields(error=str(error)))
            time.sleep(_PAUSE_S)
        finally:
            with suppress(OSError):
                self._listener.settimeout(None)
            self._take_spare()

    def _let_spare_go(self) -> None:
        """Once only: its number may be another's by then."""
        spare, self._spare = self._spare, -1
        if spare >= 0:
            os.close(spare)

    def _take_spare(self) -> None:
        while not self._is_closed:
            try:
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                time.sleep(_PAUSE_S)
            else:
                return

    def _serve(self, channel: socket.socket) -> None:
        try:
            with channel:
                channel.settimeout(EXCHANGE_DEADLINE_S)
                reply = self._reply(channel)
                channel.sendall(json.dumps(reply, default=str).encode() + b"\n")
        except OSError as error:
            log.info("control.lost", extra=fields(error=str(error)))
        finally:
            self._places.release()

    def _reply(self, channel: socket.socket) -> Mapping[str, Any]:
        try:
            question = _parse(_receive_line(channel, QUESTION_LIMIT_BYTES))
            answer = self._answers.get(str(question.get("ask")))
            if answer is None:
                raise InvalidInputError(f"a mount can be asked: {', '.join(self._answers)}")
            return _answered(answer, question)
        except CvmError as error:
            return {"error": error.what, "advice": error.advice}


def _answered(
    answer: Callable[[Question], Mapping[str, Any]], question: Question
) -> Mapping[str, Any]:
    """An answer. Errors: `UnavailableError` for what the machine denies the mount, a file or a descriptor."""
    try:
        return answer(question)
    except OSError as error:
        reason = f"the mount cannot answer: {error.strerror or error}"
        raise UnavailableError(reason, advice="its log may say more") from error


def _receive_line(channel: socket.socket, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    while part := channel.recv(65536):
        head, newline, _ = part.partition(b"\n")
        size_bytes += len(head)
        if size_bytes > limit_bytes:
            break
        parts.append(head)
        if newline:
            return b"".join(parts)
    raise MessageFormatError("no whole line", where="mount control")


def _parse(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise MessageFormatError("no JSON", where="mount control") from None
    if not isinstance(value, dict):
        raise MessageFormatError("no JSON object", where="mount control")
    return value
