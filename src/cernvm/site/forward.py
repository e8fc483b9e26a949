"""Doors from a site's private network to single services of the host, such as the message bus.

A door is a listening socket inside the network and an address outside; bytes go through as they are, each direction
ends by itself, and an instance can neither use up the site's descriptors nor reach anything but that address.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from dataclasses import dataclass, field

import anyio
from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    connect_tcp,
    create_task_group,
    fail_after,
)
from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream

from cernvm.core.log import fields

CONNECTIONS_PER_INSTANCE = 64
CONNECT_TIMEOUT_S = 10.0
_CHUNK_BYTES = 64 * 1024
_PAUSE_S = 0.1
# an instance that vanished without a word is noticed after two minutes
_KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Forward:
    """One door: whoever connects to `listener` talks to `host`:`port`.

    Concurrency: `serve` runs until it is cancelled, and then closes `listener` and every connection.
    """

    listener: socket.socket
    host: str
    port: int
    _connections: Counter[str] = field(default_factory=Counter)
    _refused: set[str] = field(default_factory=set)

    async def serve(self) -> None:
        """Carry connections; a service that is away is logged, and its callers see a closed connection."""
        async with (
            await SocketListener.from_socket(self.listener) as incoming,
            create_task_group() as group,
        ):
            while True:
                try:
                    stream = await incoming.accept()
                except OSError as error:  # out of descriptors, most likely
                    log.warning("forward.accept_failed", extra=fields(error=error))
                    await anyio.sleep(_PAUSE_S)
                    continue
                group.start_soon(self._carry, stream)

    async def _carry(self, inside: SocketStream) -> None:
        async with inside:
            source = str(inside.extra(SocketAttribute.remote_address)[0])  # noqa: S610  # not Django's
            if self._connections[source] >= CONNECTIONS_PER_INSTANCE:
                if source not in self._refused:  # once, or an instance could fill the log
                    self._refused.add(source)
                    log.warning("forward.refused", extra=fields(source=source, port=self.port))
                return
            self._connections[source] += 1
            try:
                with fail_after(CONNECT_TIMEOUT_S):
                    outside = await connect_tcp(self.host, self.port)
                async with outside:
                    await _join(inside, outside)
            except (OSError, BrokenResourceError, ClosedResourceError) as error:
                log.warning(
                    "forward.failed",
                    extra=fields(source=source, target=f"{self.host}:{self.port}", error=error),
                )
            finally:
                self._connections -= Counter((source,))
                self._refused.discard(source)


async def _join(one: SocketStream, other: SocketStream) -> None:
    """Copy both ways until both have ended; a reset on either side ends both."""
    for stream in (one, other):
        raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610  # not Django's
        for level, option, value in _KEEP_ALIVE:
            raw.setsockopt(level, option, value)
    async with create_task_group() as group:

        async def copy(source: ByteStream, target: ByteStream) -> None:
            try:
                while True:
                    await target.send(await source.receive(_CHUNK_BYTES))
            except EndOfStream:
                await _end(target)
            except (BrokenResourceError, ClosedResourceError):
                group.cancel_scope.cancel()

        group.start_soon(copy, one, other)
        group.start_soon(copy, other, one)


async def _end(stream: ByteStream) -> None:
    try:
        await stream.send_eof()
    except (OSError, BrokenResourceError, ClosedResourceError):
        return  # it has closed already
