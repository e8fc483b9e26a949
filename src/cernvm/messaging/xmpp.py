"""The wire over XMPP: one client connection that comes back by itself.

The only module that knows slixmpp. Authentication is SCRAM (the password never crosses the wire); the stream itself is
plain, for private networks.
Source: RFC 6120, RFC 6121; docs/formats/messages.md, "Transport".
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn
from xml.sax.saxutils import quoteattr

import anyio
from slixmpp import ClientXMPP
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath
from slixmpp.xmlstream.xmlstream import NotConnectedError

from cernvm.core.errors import (
    BusError,
    CvmError,
    DeniedError,
    InvalidInputError,
    MessageFormatError,
    NotFoundError,
)
from cernvm.core.log import fields
from cernvm.core.retry import backoff_s
from cernvm.messaging.delivery import FIRST_RESEND_S
from cernvm.messaging.mailbox import Mailbox
from cernvm.messaging.message import Ack, Message, format_message, read_element
from cernvm.messaging.port import Presence, bare_address

LOGIN_DEADLINE_S = 10.0
LONGEST_PAUSE_S = 5.0
# a connection whose peer is silently gone is noticed within about half a minute
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """How to join the bus: where the server is, as whom, and the password (which never prints)."""

    host: str
    port: int
    address: str
    password: str

    def __post_init__(self) -> None:
        user, _, domain = bare_address(self.address).partition("@")
        if not user or not domain or "/" not in self.address:
            raise InvalidInputError(
                f"{self.address!r} is no full bus address", advice="write name@domain/resource"
            )

    def __repr__(self) -> str:
        return f"Account({self.host}:{self.port}, {self.address})"


@asynccontextmanager
async def connect_xmpp(
    account: Account,
    *,
    deadline_s: float = 30.0,
    first_resend_s: float = FIRST_RESEND_S,
) -> AsyncIterator[Mailbox]:
    """Join the bus over XMPP and stay on it: a lost connection is made again until the block ends.

    Errors: `DeniedError` when the server refuses the password, at once; `BusError` when there is no session after
    `deadline_s`. Concurrency: one asyncio loop.
    """
    wire = _XmppWire(account)
    mailbox = Mailbox(wire, first_resend_s=first_resend_s)
    wire.serve(mailbox)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.stay_connected)
            await wire.wait_until_connected(deadline_s)
            tasks.start_soon(mailbox.resend_forever)
            yield mailbox
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _only_error(group) from None
    finally:
        mailbox.close()
        with anyio.CancelScope(shield=True):
            await wire.close()


class _XmppWire:
    def __init__(self, account: Account) -> None:
        self.address = account.address
        self.is_connected = False
        self._account = account
        self._mailbox: Mailbox | None = None
        self._announced: set[str] = set()
        self._changed = anyio.Event()
        self._refusal: CvmError | None = None
        self._last_reason = "no answer"
        self._client = self._make_client()

    def serve(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def transmit(self, message: Message | Ack) -> None:
        self._send_raw(format_message(message))

    def announce(self, recipient: str) -> None:
        self._announced.add(recipient)
        self._send_raw(f"<presence to={quoteattr(recipient)}/>")

    async def wait_until_connected(self, deadline_s: float) -> None:
        """Return with the first session. Errors: `DeniedError`, `BusError`."""
        with anyio.move_on_after(deadline_s):
            while not self.is_connected and self._refusal is None:
                await self._next_change()
        if self._refusal is not None:
            raise self._refusal
        if not self.is_connected:
            raise BusError(
                f"no session at {self._account.host}:{self._account.port} after {deadline_s:g} s: {self._last_reason}",
                advice="check that `cvm bus serve` runs and can be reached from here",
            )

    async def stay_connected(self) -> NoReturn:
        """Connect, wait until the connection is lost, connect again; with longer pauses while it fails."""
        pauses = backoff_s(initial_s=0.2, maximum_s=LONGEST_PAUSE_S)
        while True:
            if await self._attempt():
                log.info("bus.connected", extra=fields(address=self.address))
                await self._wait_until_lost()
                log.warning("bus.lost", extra=fields(address=self.address))
                pauses = backoff_s(initial_s=0.2, maximum_s=LONGEST_PAUSE_S)
            await anyio.sleep(next(pauses))

    async def close(self) -> None:
        """Leave properly if that is quick, else at once."""
        self._client.cancel_connection_attempt()
        if self._client.is_connected():
            with anyio.move_on_after(2):
                await self._client.disconnect(wait=1.0, ignore_send_queue=True)
        self._client.abort()
        # slixmpp keeps its sending loop for the next connect, and there is none
        if (sender := self._client._run_out_filters) is not None:  # noqa: SLF001
            sender.cancel()
        await anyio.lowlevel.checkpoint()

    async def _attempt(self) -> bool:
        self._client.connect(self._account.host, self._account.port)
        with anyio.move_on_after(LOGIN_DEADLINE_S):
            while not self.is_connected and self._client.is_connecting_or_connected:
                await self._next_change()
        if not self.is_connected:
            self._client.cancel_connection_attempt()
            self._client.abort()
        return self.is_connected

    async def _wait_until_lost(self) -> None:
        while self.is_connected:
            await self._next_change()

    async def _next_change(self) -> None:
        await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _send_raw(self, text: str) -> None:
        if self.is_connected:
            try:
                self._client.send_raw(text)
            except NotConnectedError:
                log.debug("message.unsent")

    def _make_client(self) -> _Client:
        client = _Client(self._account)
        client.add_event_handler("session_start", self._on_session)
        client.add_event_handler("disconnected", self._on_disconnected)
        client.add_event_handler("connection_failed", self._on_connection_failed)
        client.add_event_handler("failed_all_auth", self._on_refusal)
        client.add_event_handler("presence_available", self._on_presence)
        client.add_event_handler("presence_unavailable", self._on_presence)
        client.register_handler(
            Callback("bus", MatchXPath("{jabber:client}message"), self._on_message)
        )
        return client

    def _on_session(self, _: Any) -> None:
        _watch_silence(self._client.socket)
        self.is_connected = True
        self._send_raw("<presence/>")
        for recipient in self._announced:
            self.announce(recipient)
        if self._mailbox is not None:
            self._mailbox.reconnected()
        self._change()

    def _on_disconnected(self, reason: Any) -> None:
        self._last_reason = str(reason or "the connection was closed")
        self.is_connected = False
        self._change()

    def _on_connection_failed(self, reason: Any) -> None:
        self._last_reason = str(reason)
        self._client.cancel_connection_attempt()
        self._change()

    def _on_refusal(self, _: Any) -> None:
        self._refusal = DeniedError(
            f"the bus refuses {bare_address(self.address)}: wrong password or no such account",
            advice="make or renew the account with `cvm bus account`",
        )
        self._change()

    def _on_presence(self, stanza: Any) -> None:
        peer = str(stanza["from"])
        if bare_address(peer) != bare_address(self.address) and self._mailbox is not None:
            available = stanza["type"] != "unavailable"
            self._mailbox.received(Presence(peer, is_available=available))

    def _on_message(self, stanza: Any) -> None:
        if self._mailbox is None:
            return
        if stanza["type"] == "error":
            account = bare_address(str(stanza["from"]))
            self._mailbox.refused(str(stanza["id"]), NotFoundError("account", account))
            return
        try:
            self._mailbox.received(read_element(stanza.xml))
        except MessageFormatError as error:
            log.warning(
                "message.malformed", extra=fields(sender=str(stanza["from"])[:200], error=error)
            )


class _Client(ClientXMPP):
    """slixmpp's client, told to use plain TCP, SCRAM, and nobody's contact list."""

    def __init__(self, account: Account) -> None:
        super().__init__(account.address, account.password, sasl_mech="SCRAM-SHA-1")
        self.enable_plaintext = True
        self.enable_starttls = self.enable_direct_tls = False
        self.plugin["feature_mechanisms"].unencrypted_scram = True
        self.auto_authorize = self.auto_subscribe = False
        self.whitespace_keepalive_interval = 30

    @property
    def is_connecting_or_connected(self) -> bool:
        return bool(self.is_connecting() or self.is_connected())


def _only_error(error: BaseException) -> BaseException:
    """One error is one error to the caller, whatever groups of tasks it passed through."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _watch_silence(connection: Any) -> None:
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
