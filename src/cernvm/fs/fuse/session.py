"""The life of one mount's conversation with the kernel: every request gets exactly one answer, and none is lost.

One thread reads the requests and answers at once whatever is at hand; what has to wait for the network is given to a
bounded number of threads with a deadline that began when the request came. A request that fails, in whatever way, is
answered with an error; the mount lives on. A session can be resumed by another process where one left, or died.
"""

from __future__ import annotations

import errno
import logging
import os
import select
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cernvm.core.clock import Deadline
from cernvm.core.log import fields
from cernvm.fs.fuse.answers import FLEETING, Agreement, Answer, answer
from cernvm.fs.fuse.in_hand import RequestsInHand
from cernvm.fs.fuse.negotiate import EPOCH_MINOR, MAX_WRITE_BYTES, agree
from cernvm.fs.fuse.notify import Notifier
from cernvm.fs.fuse.open_ledger import OpenLedger
from cernvm.fs.fuse.opening import OpenFiles
from cernvm.fs.fuse.operations import MustWaitError, Operations, Patience
from cernvm.fs.fuse.protocol import (
    ANSWER_HEAD,
    InitFlag,
    Opcode,
    Request,
    format_refusal,
    pack_init,
    parse_batch_forget,
    parse_forget,
    parse_init,
    parse_interrupt,
    parse_request,
)
from cernvm.fs.fuse.settings import KernelSettings
from cernvm.fs.fuse.values import Validity
from cernvm.fs.fuse.workers import Work, Workers

WAITING_THREADS = 32

_MESSAGE_BYTES = 2 * MAX_WRITE_BYTES + 4096  # the kernel insists on 8 KiB and room for a head
_INTERRUPT_CHECK_MS = 200
_SIGKILL_BIT = 1 << 8
# Not about files, so that no verb of the operations answers them.
_UNUSUAL = frozenset(
    {Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.INIT, Opcode.DESTROY}
)
_SMALL_BYTES = 4096
# These get no answer, and may have had their effect; a reference too many does no harm.
_NOT_REPEATED = (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.INIT)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Heritage:
    """What a session needs to go on where another process stopped: what INIT settled, and what it left.

    Shape: `in_hand` is None where the kernel sends unanswered requests again by itself.
    """

    minor: int
    flags: int
    in_hand: RequestsInHand | None = None


class Session:
    """Serves `operations` on an open descriptor of /dev/fuse.

    Where the kernel has epochs, so that `Notifier.increment_epoch` reaches everything it remembers, `validity` holds;
    elsewhere `validity_without_epochs`.

    Concurrency: `serve` runs in one thread; `Operations` says what that means for them.
    """

    def __init__(
        self,
        descriptor: int,
        operations: Operations,
        *,
        validity: Validity,
        validity_without_epochs: Validity | None = None,
        settings: KernelSettings | None = None,
        waiting_threads: int = WAITING_THREADS,
        opened: OpenLedger | None = None,
        may_be_resumed: bool = False,
    ) -> None:
        self._descriptor = descriptor
        self._operations = operations
        self._settings = settings or KernelSettings()
        self._agreement = Agreement(0, validity, OpenFiles(descriptor, 0, self._settings))
        self._validity_without_epochs = validity_without_epochs or validity
        self._reader_deadline_s = self._settings.reader_deadline_s
        self._workers = Workers(waiting_threads)
        # Requests that some thread still owes an answer. Whoever takes a number out answers it; `pop` is atomic.
        self._owed: dict[int, Request] = {}
        self._interrupted: set[int] = set()  # numbers the kernel wants given up; the loop's own
        self._opened = opened
        self._may_be_resumed = may_be_resumed
        self._in_hand: RequestsInHand | None = None
        self._is_leaving = False
        self._has_left = False
        self.heritage: Heritage | None = None
        self.in_hand = 0  # the number of the request that the loop is at, for whoever watches it
        self._admit: Callable[[Request, Patience], None] | None = None

    def guard(
        self, admit: Callable[[Request, Patience], None] | None, *, may_remember: bool
    ) -> None:
        """Have `admit` decide before each answer, once the session has begun; None admits all.

        It raises what the caller shall see, or `MustWaitError`. Unless the kernel `may_remember`, it learns nothing by
        which it would answer by itself from here on.
        """
        self._admit = admit
        if not may_remember:
            self._agreement = replace(self._agreement, validity=FLEETING)

    @property
    def waiting(self) -> tuple[int, float]:
        """How many requests wait for something, and for how many seconds the oldest has."""
        return self._workers.waiting

    def serve(self, *, ready: Callable[[], None] = lambda: None) -> None:
        """Answer requests until the mount is gone; `ready` is called once the kernel has agreed to talk.

        Errors: `ValueError` for a kernel that is too old.
        """
        try:
            message = self._receive()
            while message is not None and parse_request(message).opcode != Opcode.INIT:
                message = self._receive()
            if message is not None:
                self._start(parse_request(message))
                ready()
                self._converse()
        finally:
            self._close()

    def resume(self, heritage: Heritage, *, ready: Callable[[], None] = lambda: None) -> None:
        """As `serve`, on a descriptor on which another process served until it died or left.

        Every request that it had not answered is answered.
        """
        try:
            self._agree(heritage)
            ready()
            if heritage.in_hand is None:
                Notifier(self._descriptor).resend()
            else:
                for message in heritage.in_hand.left():
                    self._repeat(parse_request(message), message, heritage.in_hand)
            self._converse()
        finally:
            self._close()

    def leave(self) -> None:
        """Stop after the next request: answer none that is not answered yet, for another process will."""
        self._is_leaving = True

    @property
    def has_left(self) -> bool:
        """Whether `leave` ended it, rather than the end of the mount."""
        return self._has_left

    def _close(self) -> None:
        self._owed.clear()  # whoever is late must not write to what may be another file by then
        self._workers.close()

    def _converse(self) -> None:
        while not self._is_leaving:
            message = self._receive()
            if message is None:
                return
            request = parse_request(message)
            self.in_hand = request.number
            self._handle(request, message)
            self.in_hand = 0
        self._has_left = True

    def _repeat(self, request: Request, message: bytes, in_hand: RequestsInHand) -> None:
        if request.opcode in _NOT_REPEATED:
            in_hand.release(request.number)
        else:
            self._answer_or_wait(request, message)

    def _receive(self) -> bytes | None:
        """The next message; None once the file system is unmounted or the connection cut."""
        while True:
            if self._interrupted:
                self._give_up_until_readable()
            try:
                if self._in_hand is None:
                    message = os.read(self._descriptor, _MESSAGE_BYTES)
                else:
                    message = self._in_hand.receive(self._descriptor)
            except OSError as error:
                if error.errno in (errno.ENODEV, errno.ECONNABORTED):
                    return None
                # ENOENT: the caller gave up just as we read; EINTR, EAGAIN: nothing was read
                if error.errno not in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                    raise
            else:
                return message or None

    def _start(self, request: Request) -> None:
        try:
            agreed = agree(parse_init(request.body), self._settings)
        except ValueError:
            self._send(request, format_refusal(request.number, errno.EPROTO), b"")
            raise
        self._deliver(request, Answer(pack_init(agreed)))
        is_resent = bool(agreed.flags & InitFlag.HAS_RESEND)
        in_hand = RequestsInHand() if self._may_be_resumed and not is_resent else None
        self._agree(Heritage(agreed.minor, agreed.flags, in_hand))

    def _agree(self, heritage: Heritage) -> None:
        self.heritage = heritage
        self._in_hand = heritage.in_hand
        has_epochs = self._settings.epochs and heritage.minor >= EPOCH_MINOR
        validity = self._agreement.validity if has_epochs else self._validity_without_epochs
        files = OpenFiles(self._descriptor, heritage.flags, self._settings)
        if self._opened is not None:
            held, note = self._opened.held, self._opened.note
            files = OpenFiles(
                self._descriptor, heritage.flags, self._settings, held=held, note=note
            )
        self._agreement = Agreement(heritage.flags, validity, files)
        log.info("fuse.started", extra=fields(minor=heritage.minor, flags=hex(heritage.flags)))

    def _handle(self, request: Request, message: bytes) -> None:
        if request.opcode in _UNUSUAL:
            self._handle_unusual(request)
        else:
            self._answer_or_wait(request, message)

    def _handle_unusual(self, request: Request) -> None:
        match request.opcode:
            case Opcode.FORGET:
                self._operations.forget(request.inode, parse_forget(request.body))
            case Opcode.BATCH_FORGET:
                for inode, count in parse_batch_forget(request.body):
                    self._operations.forget(inode, count)
            case Opcode.INTERRUPT:
                self._interrupt(parse_interrupt(request.body))
            case Opcode.INIT:  # a kernel of a newer major number asks again
                self._start(request)
            case Opcode.DESTROY:
                self._deliver(request, Answer(b""))

    def _answer_or_wait(self, request: Request, message: bytes) -> None:
        try:
            self._answer(request, None)
        except MustWaitError:
            self._owed[request.number] = request
            if self._in_hand and not self._in_hand.keep(request.number, message):
                self._refuse(request, errno.EIO)  # nobody could answer it if we died
                return
            deadline = Deadline.after(self._reader_deadline_s)
            self._workers.submit(
                Work(
                    partial(self._answer_later, request),
                    partial(self._give_up, request),
                    deadline,
                )
            )

    def _answer_later(self, request: Request, deadline: Deadline) -> None:
        try:
            self._answer(request, deadline)
        except MustWaitError:
            log.exception("request.unanswered", extra=fields(opcode=request.opcode))
            self._refuse(request, errno.EIO)

    def _give_up(self, request: Request) -> None:
        """Its deadline has passed, and whoever works on it is stuck."""
        if request.number in self._owed:
            log.error("request.overdue", extra=fields(opcode=request.opcode, inode=request.inode))
            self._refuse(request, errno.EIO)

    def _answer(self, request: Request, patience: Patience) -> None:
        try:
            if self._admit is not None:
                self._admit(request, patience)
            reply = answer(self._operations, self._agreement, request, patience)
        except MustWaitError:
            raise
        except OSError as error:
            self._refuse(request, error.errno or errno.EIO, is_owed=patience is not None)
        except (
            Exception
        ):  # the one broad net: a defect in one answer must not take the mount from everybody
            log.exception(
                "request.crashed", extra=fields(opcode=request.opcode, inode=request.inode)
            )
            self._refuse(request, errno.EIO, is_owed=patience is not None)
        else:
            self._deliver(request, reply, is_owed=patience is not None)

    def _deliver(self, request: Request, reply: Answer, *, is_owed: bool = False) -> None:
        head = ANSWER_HEAD.pack(ANSWER_HEAD.size + len(reply.body), 0, request.number)
        is_ours = not is_owed or self._owed.pop(request.number, None) is not None
        if not (is_ours and self._send(request, head, reply.body)):
            for inode in reply.granted:  # the kernel never saw these references
                self._operations.forget(inode, 1)

    def _refuse(self, request: Request, errno_value: int, *, is_owed: bool = True) -> None:
        if not is_owed or self._owed.pop(request.number, None) is not None:
            self._send(request, format_refusal(request.number, errno_value), b"")

    def _send(self, request: Request, head: bytes, body: bytes) -> bool:
        try:
            if len(body) <= _SMALL_BYTES:  # copying costs less than a second piece
                os.write(self._descriptor, head + body)
            else:
                os.writev(self._descriptor, (head, body))
        except OSError as error:
            # ENOENT: the caller gave up; the others: the mount is gone, which the loop will see
            gone = (errno.ENOENT, errno.ENODEV, errno.EBADF, errno.ECONNABORTED, errno.EPIPE)
            if error.errno not in gone:
                log.exception("answer.refused", extra=fields(opcode=request.opcode))
                return self._send_error_instead(request)
            return False
        finally:
            if self._in_hand is not None:
                self._in_hand.release(request.number)
        return True

    def _send_error_instead(self, request: Request) -> bool:
        """The kernel takes a malformed answer for no answer at all, so one is still owed."""
        try:
            os.write(self._descriptor, format_refusal(request.number, errno.EIO))
        except OSError:
            log.exception("answer.lost", extra=fields(opcode=request.opcode))
        return False

    def _interrupt(self, number: int) -> None:
        """Any signal to the caller brings this; only a deadly one may cut the request short (as with a local disk)."""
        if number in self._owed:
            self._interrupted.add(number)
            self._give_up_dying()

    def _give_up_until_readable(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while self._interrupted and not poll.poll(_INTERRUPT_CHECK_MS):
            self._give_up_dying()

    def _give_up_dying(self) -> None:
        for number in list(self._interrupted):
            request = self._owed.get(number)
            if request is None:
                self._interrupted.discard(number)
            elif _is_dying(request.pid):
                self._interrupted.discard(number)
                self._refuse(request, errno.EINTR)


def _is_dying(thread_id: int) -> bool:
    """Whether a thread is gone or about to die: the kernel turns every deadly signal into a pending SIGKILL."""
    if thread_id == 0:
        return False
    try:
        status = Path(f"/proc/{thread_id}/status").read_text("ascii", "replace")
    except OSError:
        return True
    pending = next((line for line in status.splitlines() if line.startswith("SigPnd:")), "SigPnd:0")
    return bool(int(pending.partition(":")[2], 16) & _SIGKILL_BIT)
