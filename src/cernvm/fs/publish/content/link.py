"""A worker process as its publisher sees it: takes jobs from a queue, a few at a time, and settles their futures."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from typing import Any

from cernvm.core.errors import HostError
from cernvm.core.log import fields
from cernvm.core.process import start_child, stop_child
from cernvm.fs.publish.content import wire
from cernvm.fs.publish.content.jobs import Job, Row, pack_job, unpack_row

log = logging.getLogger(__name__)

_MODULE = "cernvm.fs.publish.content.worker"
_AHEAD = 1  # jobs that wait in the process, so that it never waits for the next one
_GRACE_S = 5.0


@dataclass(slots=True)
class Assignment:
    """A job and the future of its rows."""

    job: Job
    future: Future[list[Row]] = field(default_factory=Future)


Queue = SimpleQueue["Assignment | None"]  # None: no more will come


class Link:
    """One worker process, and the two threads that speak with it.

    Concurrency: make it in a thread that lives as long as it is needed: the process ends with that thread.
    """

    def __init__(
        self, location: str, threads: int, queue: Queue, on_ready: Callable[[], None]
    ) -> None:
        self._queue = queue
        self._on_ready = on_ready
        self._slots = threading.Semaphore(threads + _AHEAD)
        self._in_flight: dict[int, Assignment] = {}
        self._lost: HostError | None = None
        self._is_ending = False
        ours, theirs = socket.socketpair()
        self._connection = ours
        with theirs:
            command = [sys.executable, "-I", "-m", _MODULE, str(theirs.fileno())]
            try:
                self._child = start_child(command, pass_fds=(theirs.fileno(),))
            except BaseException:
                ours.close()
                raise
        self._sender = threading.Thread(target=self._send, name="publish-send", daemon=True)
        self._receiver = threading.Thread(
            target=self._receive, args=(location, threads), name="publish-receive", daemon=True
        )
        self._receiver.start()

    @property
    def pid(self) -> int:
        """The process."""
        return self._child.pid

    def end(self) -> None:
        """End process and threads; the queue must have been closed, and what is not done by now fails."""
        self._is_ending = True
        if self._sender.ident is None:  # it never got ready
            self._child.kill()
        else:
            self._sender.join(_GRACE_S)
        self._receiver.join(_GRACE_S)
        stop_child(self._child, grace_s=_GRACE_S)
        self._connection.close()

    def kill(self) -> None:
        """End the process at once: what it was doing is not wanted any more."""
        self._is_ending = True
        self._child.kill()

    def _receive(self, location: str, threads: int) -> None:
        if not self._is_greeted(location, threads):
            return
        self._sender.start()
        self._on_ready()
        try:
            while True:
                number, done = wire.receive(self._connection)
                settle(self._in_flight.pop(number), done)
                self._slots.release()
        except (EOFError, OSError):
            self._lost = self._loss()
            self._slots.release()  # for the sender to look
            self._fail_all(self._lost)

    def _is_greeted(self, location: str, threads: int) -> bool:
        """Whether the process has opened the store; if not, others do its work."""
        try:
            wire.send(self._connection, (location, threads))
            _, problem = wire.receive(self._connection)
            if problem is None:
                return True
            reason = str(wire.unpack_error(*problem))
        except (EOFError, OSError) as exc:
            reason = str(exc) or "it ended"
        if not self._is_ending:
            log.warning("worker.not_started", extra=fields(pid=self.pid, error=reason))
        return False

    def _send(self) -> None:
        for number in count(1):
            if self._lost is None:
                self._slots.acquire()
            assignment = self._queue.get()
            if assignment is None:
                break
            self._in_flight[number] = assignment
            if self._lost is not None:
                self._fail_all(self._lost)
                continue
            with suppress(OSError):  # the receiver finds out as well
                wire.send(self._connection, (number, pack_job(assignment.job)))
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def _fail_all(self, loss: HostError) -> None:
        """Settle what the process will not do any more; either thread may come here first."""
        while self._in_flight:
            with suppress(KeyError):
                self._in_flight.popitem()[1].future.set_exception(loss)

    def _loss(self) -> HostError:
        try:
            status = self._child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            status = 0
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return HostError(
            f"worker process {self.pid}",
            f"it {how} while it stored files",
            advice="look whether the machine ran out of memory, then publish again",
        )


def settle(assignment: Assignment, done: Any) -> None:
    """Give a future what a process answered: a list of rows, or an error."""
    if isinstance(done, list):
        assignment.future.set_result([unpack_row(row) for row in done])
    else:
        assignment.future.set_exception(wire.unpack_error(*done))
