"""A bus made of a wire: acknowledgements, resending, and each message delivered once."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anyio

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import BusError, CvmError, DeadlineError
from cernvm.core.log import fields as log_fields
from cernvm.messaging.delivery import FIRST_RESEND_S, Inbox, Outbox
from cernvm.messaging.message import Ack, Fields, Message
from cernvm.messaging.port import Presence, Wire

WAITING_MESSAGES = 1000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sending:
    settled: anyio.Event = field(default_factory=anyio.Event)
    error: CvmError | None = None


class Mailbox:
    """The `Bus` over any `Wire`; the wire's owner feeds it and runs `resend_forever`."""

    def __init__(
        self, wire: Wire, *, first_resend_s: float = FIRST_RESEND_S, clock: Clock | None = None
    ) -> None:
        self._wire = wire
        self._clock = clock or SystemClock()
        self._outbox = Outbox(first_resend_s=first_resend_s)
        self._inbox = Inbox()
        self._sending: dict[str, _Sending] = {}
        self._changed = anyio.Event()
        self._arrivals, self._arrived = anyio.create_memory_object_stream[Message | Presence](
            WAITING_MESSAGES
        )

    @property
    def address(self) -> str:
        return self._wire.address

    async def send(
        self, recipient: str, command: str, fields: Fields, *, deadline_s: float = 60.0
    ) -> None:
        message = Message(uuid.uuid4().hex, self.address, recipient, command, fields)
        sending = self._sending[message.id] = _Sending()
        self._outbox.add(message, self._clock.monotonic())
        self._wake()
        self._wire.transmit(message)
        try:
            with anyio.move_on_after(deadline_s):
                await sending.settled.wait()
        finally:
            self._outbox.remove(message.id)
            del self._sending[message.id]
        if sending.error is not None:
            raise sending.error
        if not sending.settled.is_set():
            raise self._unanswered(message, deadline_s)

    async def announce(self, recipient: str) -> None:
        self._wire.announce(recipient)

    async def incoming(self) -> AsyncIterator[Message | Presence]:
        async for item in self._arrived:
            yield item

    def received(self, item: Message | Ack | Presence) -> None:
        """Take what the wire brought; what is not for this address is left alone."""
        if isinstance(item, Presence):
            self._offer(item)
        elif item.recipient not in (self.address, self.address.partition("/")[0]):
            log.debug("message.misrouted", extra=log_fields(recipient=item.recipient))
        elif isinstance(item, Ack):
            self._settle(item.id, None)
        else:
            self._receive_message(item)

    def refused(self, message_id: str, error: CvmError) -> None:
        """Take the wire's word that a message cannot be delivered."""
        self._settle(message_id, error)

    def reconnected(self) -> None:
        """Send everything unacknowledged again over the new connection."""
        self._outbox.hurry(self._clock.monotonic())
        self._wake()

    async def resend_forever(self) -> None:
        """Send again what stays unacknowledged; runs beside the wire until cancelled."""
        while True:
            self._changed = anyio.Event()
            now = self._clock.monotonic()
            for message in self._outbox.dropped(now):
                self._settle(message.id, self._unanswered(message, 0))
            for message in self._outbox.due(now):
                self._wire.transmit(message)
            next_at = self._outbox.next_at()
            with anyio.move_on_after(math.inf if next_at is None else max(0.0, next_at - now)):
                await self._changed.wait()

    def close(self) -> None:
        """End `incoming` and whatever is being sent."""
        for sending in self._sending.values():
            sending.error = BusError("the connection to the bus was closed")
            sending.settled.set()
        self._arrivals.close()
        self._arrived.close()

    def _receive_message(self, message: Message) -> None:
        if not self._inbox.is_known(message):
            if not self._offer(message):
                return  # unacknowledged, so it comes again when there is room
            self._inbox.accept(message)
        if message.wants_ack:
            self._wire.transmit(Ack(message.id, self.address, message.sender))

    def _offer(self, item: Message | Presence) -> bool:
        try:
            self._arrivals.send_nowait(item)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return False  # the block that reads has ended
        except anyio.WouldBlock:
            log.warning("message.unread", extra=log_fields(waiting=WAITING_MESSAGES))
            return False
        return True

    def _settle(self, message_id: str, error: CvmError | None) -> None:
        self._outbox.remove(message_id)
        if (sending := self._sending.get(message_id)) is not None:
            sending.error = error
            sending.settled.set()

    def _wake(self) -> None:
        self._changed.set()

    def _unanswered(self, message: Message, deadline_s: float) -> CvmError:
        action = f"delivering {message.command} to {message.recipient}"
        if not self._wire.is_connected:
            return BusError(
                f"{action}: the bus is not connected",
                advice="check that `cvm bus serve` runs and can be reached",
            )
        return DeadlineError(action, after_s=deadline_s, advice="the recipient may be away")
