"""A helper process that decides who may read; it may hang, lie or die, and costs its askers a bounded time.

One thread of ours owns the process, which the kernel kills with that thread.
Source: docs/formats/authorization.md
"""

from __future__ import annotations

import logging
import os
import re
import select
import signal
import stat
import subprocess
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from cernvm.core.clock import Deadline
from cernvm.core.errors import (
    CvmError,
    DeadlineError,
    DeniedError,
    MessageFormatError,
    PrerequisiteError,
    UnavailableError,
)
from cernvm.core.linux import die_with_parent
from cernvm.core.log import fields
from cernvm.fs.mount.authorization_frames import (
    HEAD,
    Subject,
    Verdict,
    format_handshake,
    format_quit,
    format_verify,
    parse_head,
    parse_ready,
    parse_verdict,
)

ANSWER_DEADLINE_S = 5.0
FAREWELL_S = 0.5

_SCHEMA = re.compile(r"[A-Za-z0-9_]{1,64}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Question:
    membership: str
    subject: Subject
    deadline: Deadline
    answer: Future[Verdict]


class Helper:
    """The helper of one repository, started when it is first asked. Concurrency: `ask` from any thread."""

    def __init__(
        self, program: Path, repository: str, *, answer_deadline_s: float = ANSWER_DEADLINE_S
    ) -> None:
        self._program = program
        self._repository = repository
        self._answer_deadline_s = answer_deadline_s
        self._questions: SimpleQueue[_Question | None] = SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="authorization", daemon=True)
        self._thread.start()

    def ask(self, membership: str, subject: Subject, deadline: Deadline) -> Verdict:
        """Whether `subject` has the membership.

        Errors: `UnavailableError`, `MessageFormatError`, `PrerequisiteError`, `DeniedError` when there is no answer.
        """
        question = _Question(membership, subject, deadline, Future())
        self._questions.put(question)
        try:
            return question.answer.result(max(deadline.remaining_s, 0))
        except FutureTimeoutError:
            question.answer.cancel()
            raise DeadlineError("the authorization helper", after_s=deadline.budget_s) from None

    def close(self) -> None:
        """End the helper; whoever still waits gets an error."""
        self._questions.put(None)
        self._thread.join(2 * FAREWELL_S + self._answer_deadline_s)

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            if question.deadline.has_passed or not question.answer.set_running_or_notify_cancel():
                continue
            try:
                question.answer.set_result(self._verdict(question))
            except (CvmError, OSError) as error:
                self._end()
                log.warning("authorization.failed", extra=fields(error=str(error)))
                told = error if isinstance(error, CvmError) else UnavailableError(str(error))
                question.answer.set_exception(told)
        if self._process is not None:
            with suppress(OSError, subprocess.TimeoutExpired):
                os.write(self._stdin, format_quit(self._repository))
                self._process.wait(FAREWELL_S)
        self._end()

    def _verdict(self, question: _Question) -> Verdict:
        left_s = min(self._answer_deadline_s, question.deadline.remaining_s)
        deadline = Deadline.after(left_s)
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._start(deadline)
        self._send(format_verify(self._repository, question.membership, question.subject), deadline)
        return parse_verdict(self._receive(deadline))

    def _start(self, deadline: Deadline) -> None:
        check_program(self._program)
        try:
            process = subprocess.Popen(
                [str(self._program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath)},
                preexec_fn=die_with_parent,  # noqa: PLW1509  # prctl only: no lock, no allocation between fork and exec
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise PrerequisiteError(
                f"the authorization helper {self._program} cannot be run: {error.strerror}"
            ) from error
        self._process = process
        os.set_blocking(self._stdin, False)
        self._send(format_handshake(self._repository), deadline)
        parse_ready(self._receive(deadline))

    def _send(self, data: bytes, deadline: Deadline) -> None:
        left = memoryview(data)
        while left:
            self._wait(select.POLLOUT, self._stdin, deadline)
            left = left[os.write(self._stdin, left) :]

    def _receive(self, deadline: Deadline) -> bytes:
        length = parse_head(self._exactly(HEAD.size, deadline))
        return self._exactly(length, deadline)

    def _exactly(self, size_bytes: int, deadline: Deadline) -> bytes:
        data = b""
        while len(data) < size_bytes:
            self._wait(select.POLLIN, self._stdout, deadline)
            part = os.read(self._stdout, size_bytes - len(data))
            if not part:
                raise MessageFormatError("it has ended", where="authorization helper")
            data += part
        return data

    def _wait(self, event: int, descriptor: int, deadline: Deadline) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(max(deadline.remaining_s, 0) * 1000):
            raise DeadlineError("the authorization helper", after_s=deadline.budget_s)

    @property
    def _stdin(self) -> int:
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin.fileno()

    @property
    def _stdout(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:  # else its number may be somebody else's by now
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it has started
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(FAREWELL_S)


def helper_program(membership: str, named: Path | None, search: Path) -> Path:
    """The helper of a membership `KIND%TEXT`, unless one is `named`. Errors: `DeniedError` for a strange kind."""
    if named is not None:
        return named
    schema = membership.partition("%")[0]
    if not _SCHEMA.fullmatch(schema):
        raise DeniedError("this repository asks for a kind of membership that has no name")
    return search / f"cvmfs_{schema}_helper"


def check_program(program: Path) -> None:
    """Refuse a helper that others could have replaced. Errors: `PrerequisiteError`."""
    try:
        found = program.stat()
    except OSError:
        raise PrerequisiteError(
            f"the authorization helper {program} is missing",
            advice="install the helper of this kind of membership, or name it: CVMFS_AUTHZ_HELPER",
        ) from None
    is_ours = found.st_uid in (0, os.geteuid())
    if not (program.is_absolute() and stat.S_ISREG(found.st_mode) and is_ours):
        raise PrerequisiteError(f"{program} is no program of root's or of yours")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PrerequisiteError(f"the authorization helper {program} may be written by others")
