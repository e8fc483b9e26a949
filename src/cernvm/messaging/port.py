"""The bus as agents see it, and the wire below it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from cernvm.messaging.message import Ack, Fields, Message


@dataclass(frozen=True, slots=True)
class Presence:
    """News of a peer that announced itself: it is there, or it went away."""

    peer: str
    is_available: bool


def bare_address(address: str) -> str:
    """The account of an address, without the resource that tells its connections apart.

    >>> bare_address("pilot@grid.test/i-12345678")
    'pilot@grid.test'
    """
    return address.partition("/")[0]


class Bus(Protocol):
    """One agent's place on the bus.

    Concurrency: one event loop; `send` may run many times at once, `incoming` once.
    """

    @property
    def address(self) -> str:
        """The full address by which others reach this very connection."""

    async def send(
        self, recipient: str, command: str, fields: Fields, *, deadline_s: float = 60.0
    ) -> None:
        """Deliver a command: return when its recipient has acknowledged it.

        A recipient that is away gets it when it comes back, if that is before the deadline of the sender.
        Errors: `NotFoundError` for an account that does not exist; `DeadlineError` without an acknowledgement in time;
        `BusError` when the bus itself was gone. After the last two the message may still have arrived.
        """

    async def announce(self, recipient: str) -> None:
        """Let `recipient` know of this agent's presence, and of its end, for as long as it is connected."""

    def incoming(self) -> AsyncIterator[Message | Presence]:
        """Every message for this address, once each, and the presence of whoever announced itself here."""


class Wire(Protocol):
    """What carries single messages, perhaps; all else is `Mailbox`'s business."""

    @property
    def address(self) -> str:
        """The full address of this end."""

    @property
    def is_connected(self) -> bool:
        """Whether a message could leave now."""

    def transmit(self, message: Message | Ack) -> None:
        """Put a message on its way if there is a connection; never waits, never fails."""

    def announce(self, recipient: str) -> None:
        """Show presence to `recipient`, now or as soon as there is a connection."""
