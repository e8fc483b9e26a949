"""The bus within one process: the twin of the real one, with faults to order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from cernvm.core.errors import NotFoundError
from cernvm.messaging.delivery import FIRST_RESEND_S
from cernvm.messaging.mailbox import Mailbox
from cernvm.messaging.message import Ack, Message, format_message, parse_message
from cernvm.messaging.port import Presence, bare_address


class MemoryNetwork:
    """A bus server in memory: routes by address, queues for accounts that are away.

    `loses` decides for each message or receipt whether it vanishes on its way.
    """

    def __init__(self, *, accounts: tuple[str, ...] = ()) -> None:
        self.accounts = set(accounts)
        self.loses: Callable[[Message | Ack], bool] = lambda _: False
        self._connected: dict[str, Mailbox] = {}
        self._queued: dict[str, list[Message]] = defaultdict(list)

    @asynccontextmanager
    async def connect(
        self, address: str, *, first_resend_s: float = FIRST_RESEND_S
    ) -> AsyncIterator[Mailbox]:
        """Join as `address`, a full one; a new account is made for it."""
        self.accounts.add(bare_address(address))
        wire = _MemoryWire(self, address)
        mailbox = Mailbox(wire, first_resend_s=first_resend_s)
        self._connected[address] = mailbox
        for message in self._queued.pop(bare_address(address), []):
            mailbox.received(message)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(mailbox.resend_forever)
                yield mailbox
                tasks.cancel_scope.cancel()
        finally:
            del self._connected[address]
            mailbox.close()
            for peer in wire.announced:
                self.show(Presence(address, is_available=False), peer)

    def route(self, item: Message | Ack) -> None:
        """Carry a message or receipt to where it belongs."""
        if self.loses(item):
            return
        account = bare_address(item.recipient)
        if account not in self.accounts:
            if isinstance(item, Message) and item.sender in self._connected:
                self._connected[item.sender].refused(item.id, NotFoundError("account", account))
            return
        copy = parse_message(format_message(item))
        receivers = self._receivers(item.recipient)
        for mailbox in receivers:
            mailbox.received(copy)
        if not receivers and isinstance(copy, Message):
            self._queued[account].append(copy)

    def show(self, presence: Presence, recipient: str) -> None:
        """Tell everyone connected as `recipient` of a peer."""
        for mailbox in self._receivers(recipient):
            mailbox.received(presence)

    def _receivers(self, recipient: str) -> list[Mailbox]:
        if recipient in self._connected:
            return [self._connected[recipient]]
        account = bare_address(recipient)
        return [
            mailbox for name, mailbox in self._connected.items() if bare_address(name) == account
        ]


class _MemoryWire:
    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network = network
        self.address = address
        self.is_connected = True
        self.announced: list[str] = []

    def transmit(self, message: Message | Ack) -> None:
        self._network.route(message)

    def announce(self, recipient: str) -> None:
        self.announced.append(recipient)
        self._network.show(Presence(self.address, is_available=True), recipient)
