"""The line between a process that serves a mount and the mount's holder, which outlives it.

The holder is started by the first process that serves. Should it die, the process in office starts another.
Source: docs/formats/hand-over.md
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from cernvm.core.errors import DeadlineError, UnavailableError
from cernvm.core.log import fields
from cernvm.core.process import Record, describe_process
from cernvm.fs.mount import holder
from cernvm.fs.mount.succession import Estate

TURN_DEADLINE_S = 30.0
REPLACE_DEADLINE_S = holder.OPENING_LIMIT_S + 5
HOLDER_RESTARTS = 5
SEND_LIMIT_S = 2  # a holder that is stopped does not read

_MESSAGE_BYTES = 64 * 1024
_PEER = struct.Struct("3i")
_TIMEVAL = struct.Struct("ll")
_RESTART_PAUSE_S = 0.5

log = logging.getLogger(__name__)


class Office:
    """What the process in office tells the holder, and hears from it.

    `leave` is called when a successor stands ready; `holder_changed` when another holder holds the mount, or none
    (None). Both in a thread of this one. Concurrency: safe from any thread.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        leave: Callable[[], None],
        holder_changed: Callable[[Record | None], None],
        channel: socket.socket | None = None,
    ) -> None:
        self._command = tuple(command)
        self._leave = leave
        self._holder_changed = holder_changed
        self._channel = None if channel is None else _with_bounded_sends(channel)
        self._estate: Estate | None = None
        self._lock = threading.Lock()
        self._replacing = threading.Lock()
        self._is_closed = False
        self._child: subprocess.Popen[bytes] | None = None
        self._outcomes: SimpleQueue[int | None] = SimpleQueue()

    def enter(self, estate: Estate) -> None:
        """Take office, with a holder of our own if there is none yet. A mount that cannot have one lives without."""
        if self._channel is not None:
            self.keep(estate)
        self._estate = estate
        if self._channel is None and not self._start_holder():
            return
        threading.Thread(target=self._listen, name="mount-holder", daemon=True).start()

    def keep(self, estate: Estate) -> None:
        """Have the holder keep what the next process needs."""
        with self._lock:
            self._estate = estate
            channel = self._channel
            if channel is not None and not self._is_closed:
                with suppress(OSError):
                    estate.send(channel, b"keep\n" + _words(self._command))

    def replace(self, command: Sequence[str] = ()) -> int:
        """Have a successor started; returns its process id when it stands ready, and then this process leaves.

        Errors: `UnavailableError` when none came, or there is no holder; `DeadlineError`.
        """
        with self._replacing:
            while not self._outcomes.empty():
                self._outcomes.get()
            self._tell(b"replace\n" + _words(command or self._command))
            try:
                pid = self._outcomes.get(timeout=REPLACE_DEADLINE_S)
            except Empty:
                raise DeadlineError("the successor", after_s=REPLACE_DEADLINE_S) from None
        if pid is None:
            raise UnavailableError(
                "the successor could not start: the mount goes on as it was",
                advice="the mount's log says why",
            )
        return pid

    def resign(self) -> None:
        """Tell the holder, by hanging up, that the successor may serve."""
        self._close()

    def end(self) -> None:
        """The mount is over: there is nothing to hold."""
        with suppress(UnavailableError):
            self._tell(b"end")
        self._close()
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(1)

    def _tell(self, message: bytes) -> None:
        with self._lock:
            try:
                if self._channel is None or self._is_closed:
                    raise OSError("there is none")
                self._channel.send(message)
            except OSError as error:
                raise UnavailableError(
                    f"the mount's holder cannot be reached: {error}",
                    advice="unmount and mount again: a holder keeps a mount while its process is replaced",
                ) from error

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._channel is not None:
                with suppress(OSError):
                    self._channel.shutdown(socket.SHUT_RDWR)  # wakes the listening thread
                self._channel.close()

    def _start_holder(self) -> bool:
        script = Path(holder.__file__)
        if not script.is_file():
            return False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # it must need nothing but the interpreter: no site packages, no environment
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script), str(os.getpid())],
                stdin=theirs.fileno(),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            log.warning("holder.unavailable", extra=fields(error=str(error)))
            ours.close()
            return False
        finally:
            theirs.close()
        with self._lock:
            self._channel = _with_bounded_sends(ours)
        assert self._estate is not None
        self.keep(self._estate)
        log.info("holder.started", extra=fields(pid=self._child.pid))
        self._holder_changed(describe_process(self._child.pid, "holder"))
        return True

    def _listen(self) -> None:
        """Hear the holder; replace it when it is gone, a few times."""
        for attempt in range(1 + HOLDER_RESTARTS):
            if self._channel is not None:
                self._hear(self._channel)
            if self._is_closed:
                return
            log.warning("holder.lost", extra=fields(attempt=attempt))
            self._outcomes.put(None)
            if self._child is not None:
                self._child.wait()
            threading.Event().wait(_RESTART_PAUSE_S)
            with self._lock:
                if self._channel is not None and not self._is_closed:
                    self._channel.close()
                    self._channel = None
            if self._is_closed or not self._start_holder():
                break
        self._holder_changed(None)

    def _hear(self, channel: socket.socket) -> None:
        while True:
            try:
                message = channel.recv(_MESSAGE_BYTES)
            except OSError:
                return
            verb, _, rest = message.partition(b"\n")
            if verb == b"yield":
                self._outcomes.put(int(rest))
                self._leave()
            elif verb == b"failed":
                self._outcomes.put(None)
            elif not verb:
                return


def await_turn(channel: socket.socket) -> bool:
    """Tell the holder that this process stands ready, and wait; False when the holder is gone or has no use for it."""
    try:
        channel.settimeout(TURN_DEADLINE_S)
        channel.send(b"ready")
        has_turn = channel.recv(_MESSAGE_BYTES) == b"go"
        channel.settimeout(None)
    except OSError:
        return False
    return has_turn


def holder_of(channel: socket.socket) -> Record:
    """The process that made the channel."""
    peer = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return describe_process(_PEER.unpack(peer)[0], "holder")


def _with_bounded_sends(channel: socket.socket) -> socket.socket:
    limit = _TIMEVAL.pack(SEND_LIMIT_S, 0)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    return channel


def _words(command: Sequence[str]) -> bytes:
    return "\0".join(command).encode("utf-8", "surrogateescape")
