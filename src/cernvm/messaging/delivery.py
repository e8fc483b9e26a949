"""When a message is sent again, when it is given up, and how a second copy is told: rules without a clock or a wire.

Moments are seconds on any one scale; the caller passes them in.
Source: docs/formats/messages.md, "Delivery".
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from cernvm.messaging.message import Message

FIRST_RESEND_S = 10.0
DROP_AFTER_S = 24 * 3600.0
REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Pending:
    """A message on its way: sent `trial` times, the next time at `resend_at`."""

    message: Message
    sent_at: float
    resend_at: float
    trial: int


class Outbox:
    """Messages that were sent and not acknowledged yet.

    The pause before the next copy doubles each time: 10, 20, 40 … s; after 24 h a message is given up.
    """

    def __init__(
        self, *, first_resend_s: float = FIRST_RESEND_S, drop_after_s: float = DROP_AFTER_S
    ) -> None:
        self._first_resend_s = first_resend_s
        self._drop_after_s = drop_after_s
        self._pending: dict[str, Pending] = {}

    def add(self, message: Message, now: float) -> None:
        """Note that `message` was sent for the first time."""
        self._pending[message.id] = Pending(message, now, now + self._first_resend_s, 1)

    def remove(self, message_id: str) -> bool:
        """Forget an acknowledged or abandoned message; False when it is not waited for."""
        return self._pending.pop(message_id, None) is not None

    def due(self, now: float) -> list[Message]:
        """The messages to send again now; their next copy is planned at twice the pause."""
        due = [pending for pending in self._pending.values() if pending.resend_at <= now]
        for pending in due:
            pause_s = self._first_resend_s * 2**pending.trial
            self._pending[pending.message.id] = replace(
                pending, resend_at=now + pause_s, trial=pending.trial + 1
            )
        return [pending.message for pending in due]

    def dropped(self, now: float) -> list[Message]:
        """Forget and return the messages that are too old to be sent again."""
        old = [p.message for p in self._pending.values() if now - p.sent_at >= self._drop_after_s]
        for message in old:
            del self._pending[message.id]
        return old

    def hurry(self, now: float) -> None:
        """Make everything due at once: a new connection knows nothing of what the old one carried."""
        for key, pending in self._pending.items():
            self._pending[key] = replace(pending, resend_at=now)

    def next_at(self) -> float | None:
        """The moment at which something has to happen; None when nothing waits."""
        moments = [
            min(pending.resend_at, pending.sent_at + self._drop_after_s)
            for pending in self._pending.values()
        ]
        return min(moments, default=None)


class Inbox:
    """Tells a second copy of a message from the first, for the last `remembered` messages."""

    def __init__(self, *, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def is_known(self, message: Message) -> bool:
        """Whether this sender's message of this id was accepted before."""
        return (message.sender, message.id) in self._seen

    def accept(self, message: Message) -> None:
        """Remember a message; the oldest is forgotten when there are too many."""
        self._seen[message.sender, message.id] = None
        while len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
