"""Serving an ASGI application on a socket that somebody else opened, until told to end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_MAX = 256
HEAD_DEADLINE_S = 10.0
KEEP_ALIVE_S = 15
LEAVE_S = 2


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: several share one loop, and the site decides when they end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """uvicorn's, which waits for a request's head for ever, and lets one client have all connections there are."""

    def __init__(self, *, per_client: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._per_client = per_client
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if sum(_host(other) == _host(self) for other in self.connections) > self._per_client:
            transport.abort()
            return
        self._await_head(HEAD_DEADLINE_S)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head(KEEP_ALIVE_S + HEAD_DEADLINE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def _await_head(self, limit_s: float) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(limit_s, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def _host(protocol: object) -> str:
    client = getattr(protocol, "client", None)
    return str(client[0]) if client else ""


async def serve_application(
    app: ASGIApp,
    listener: socket.socket,
    stop: anyio.Event,
    *,
    per_client: int = CONNECTIONS_MAX,
) -> None:
    """Answer requests until `stop`; open ones then have `LEAVE_S` to finish. Closes `listener`.

    One client's address may have `per_client` connections; more are dropped.
    """
    server = _Server(
        uvicorn.Config(
            app,
            access_log=False,
            http=partial(_Protocol, per_client=per_client),  # type: ignore[arg-type]
            interface="asgi3",
            lifespan="off",
            limit_concurrency=CONNECTIONS_MAX,
            log_config=None,
            log_level="warning",  # its own comings and goings are not events of the site
            server_header=False,
            timeout_graceful_shutdown=LEAVE_S,
            timeout_keep_alive=KEEP_ALIVE_S,
            ws="none",
        )
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        await stop.wait()
        server.should_exit = True
