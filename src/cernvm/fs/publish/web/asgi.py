"""Repositories as an ASGI application, for whatever server a site runs.

Files are read in threads, a bounded number at a time; big ones are sent in parts as the client takes them.
Source: the ASGI specification, version 3 (HTTP).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from cernvm.fs.publish.web.answers import answer
from cernvm.fs.publish.web.failures import finding
from cernvm.fs.publish.web.found import Asked, Found, Shelves
from cernvm.fs.store.parts import MemoryParts

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

THREADS = 32
_SEND_BYTES = 1 << 18


class RepositoryApp:
    """The application over what `shelves` has."""

    def __init__(self, shelves: Shelves) -> None:
        self._shelves = shelves
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="serve")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._exchange(scope, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        self._threads.shutdown(wait=False, cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _exchange(self, scope: Message, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await _refuse(send, HTTPStatus.METHOD_NOT_ALLOWED, with_body=True)
            return
        with_body = scope["method"] == "GET"
        headers = {
            key.decode("latin-1").lower(): value.decode("latin-1")
            for key, value in scope["headers"]
        }
        address = (scope.get("client") or ("", 0))[0]
        # by the bytes that were sent: what is quoted in them is no path of ours
        path = scope.get("raw_path", scope["path"].encode()).partition(b"?")[0].decode("latin-1")
        asked = Asked(path, address, headers.get("x-forwarded-for", "")[:1000])
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, finding, self._shelves, asked)
        if isinstance(found, HTTPStatus):
            await _refuse(send, found, with_body=with_body)
            return
        try:
            await self._send(found, headers, send, with_body=with_body)
        finally:
            found.close()

    async def _send(
        self, found: Found, headers: dict[str, str], send: Send, *, with_body: bool
    ) -> None:
        head = answer(found.facts, headers)
        await _start(send, head.status, head.headers)
        left, at = (head.length, head.first) if with_body else (0, 0)
        loop = asyncio.get_running_loop()
        while left:
            size = min(left, _SEND_BYTES)
            if isinstance(found.parts, MemoryParts):
                block = found.parts.read(at, size)
            else:
                block = await loop.run_in_executor(self._threads, found.parts.read, at, size)
            if not block:
                msg = "a file became shorter while it was sent"
                raise ConnectionAbortedError(msg)
            left, at = left - len(block), at + len(block)
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _refuse(send: Send, status: HTTPStatus, *, with_body: bool) -> None:
    body = f"{status.phrase}\n".encode()
    headers = (
        ("Content-Type", "text/plain"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "max-age=15"),
    )
    await _start(send, status, headers)
    await send({"type": "http.response.body", "body": body if with_body else b""})


async def _start(send: Send, status: HTTPStatus, headers: tuple[tuple[str, str], ...]) -> None:
    lines = [(key.lower().encode(), value.encode("latin-1")) for key, value in headers]
    await send({"type": "http.response.start", "status": int(status), "headers": lines})
