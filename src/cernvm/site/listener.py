"""Serving an ASGI application on a socket that somebody else opened, until told to end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import uvicorn
from starlette.types import ASGIApp

CONNECTIONS_MAX = 256
KEEP_ALIVE_S = 15
LEAVE_S = 2


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: several share one loop, and the site decides when they end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_application(app: ASGIApp, listener: socket.socket, stop: anyio.Event) -> None:
    """Answer requests until `stop`; open ones then have `LEAVE_S` to finish. Closes `listener`."""
    server = _Server(
        uvicorn.Config(
            app,
            access_log=False,
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
