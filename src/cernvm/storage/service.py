"""The storage over HTTP: put, get, stat, list and delete, each allowed by a token.

Source: docs/formats/storage.md.
"""

from __future__ import annotations

import functools
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
import anyio.from_thread
import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import CvmError, DeadlineError, InvalidInputError, SignatureError
from cernvm.core.log import fields
from cernvm.storage.port import ObjectStorage, Stat, check_object_path, check_sha256
from cernvm.storage.problems import status_of, to_problem
from cernvm.storage.token import Capability, read_token

STALL_S = 30.0
SLOWEST_BYTES_S = 20_000
DRAIN_S = 1.0
MAX_CONNECTIONS = 500
UPLOADS_AT_ONCE = 64  # each holds a thread for as long as its sender takes; more wait their turn

log = logging.getLogger(__name__)
Endpoint = Callable[[Request], Awaitable[Response]]


async def serve_storage(
    storage: ObjectStorage, key: bytes, listening: socket.socket, *, on_ready: Callable[[], None]
) -> None:
    """Answer on a socket that listens already until SIGTERM or SIGINT; then finish what is running, in 3 s."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        on_ready()
        yield

    app = make_app(storage, key)
    app.router.lifespan_context = lifespan
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        timeout_keep_alive=30,
        limit_concurrency=MAX_CONNECTIONS,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    await uvicorn.Server(config).serve(sockets=[listening])


def make_app(
    storage: ObjectStorage, key: bytes, *, clock: Clock | None = None, stall_s: float = STALL_S
) -> Starlette:
    """The storage as an ASGI application; a sender that pauses for `stall_s` is given up."""
    used = clock or SystemClock()
    # apart from the threads that answer everything else: who dawdles with an upload keeps nobody from asking
    uploads = anyio.CapacityLimiter(UPLOADS_AT_ONCE)

    def allowed(request: Request, path: str, *, size_bytes: int = 0) -> Capability:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise SignatureError("a token is needed", advice="send Authorization: Bearer TOKEN")
        capability = read_token(key, token, now=used.now())
        capability.check(request.method, path, size_bytes=size_bytes)
        return capability

    async def put_object(request: Request) -> Response:
        path = check_object_path(request.path_params["path"])
        size_bytes = _content_length(request)
        sha256 = check_sha256(request.headers.get("x-checksum-sha256", ""))
        capability = allowed(request, path, size_bytes=size_bytes)
        store = functools.partial(storage.put, path, size_bytes=size_bytes, sha256=sha256)
        stat = await _with_body(
            request, store, size_bytes=size_bytes, stall_s=stall_s, limiter=uploads
        )
        log.info("object.stored", extra=fields(path=path, job=capability.job, size=size_bytes))
        return JSONResponse(_to_row(stat), 201)

    async def get_object(request: Request) -> Response:
        path = check_object_path(request.path_params["path"])
        allowed(request, path)
        verify = request.query_params.get("verify") == "1"
        stat = await anyio.to_thread.run_sync(functools.partial(storage.stat, path, verify=verify))
        headers = {
            "Content-Length": str(stat.size_bytes),
            "X-Checksum-Sha256": stat.sha256,
            "X-Stored-At": stat.stored_at.isoformat(),
        }
        if request.method == "HEAD":
            return Response(headers=headers, media_type="application/octet-stream")
        blocks = await anyio.to_thread.run_sync(storage.get, path)
        return StreamingResponse(blocks, headers=headers, media_type="application/octet-stream")

    async def delete_object(request: Request) -> Response:
        path = check_object_path(request.path_params["path"])
        allowed(request, path)
        await anyio.to_thread.run_sync(storage.delete, path)
        return Response(status_code=204)

    async def list_objects(request: Request) -> Response:
        prefix = request.query_params.get("prefix", "")
        allowed(request, prefix)
        stats = await anyio.to_thread.run_sync(storage.list, prefix)
        return JSONResponse({"objects": [_to_row(stat) for stat in stats]})

    objects = "/v1/objects/{path:path}"
    return Starlette(
        routes=[
            Route("/v1/objects", _guarded(list_objects), methods=["GET"]),
            Route(objects, _guarded(put_object), methods=["PUT"]),
            Route(objects, _guarded(get_object), methods=["GET"]),
            Route(objects, _guarded(delete_object), methods=["DELETE"]),
        ]
    )


def _guarded(endpoint: Endpoint) -> Endpoint:
    """Turn our errors into problem documents."""

    @functools.wraps(endpoint)
    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnect:
            log.info("object.abandoned", extra=fields(path=request.url.path))
            return Response(status_code=400)
        except CvmError as error:
            log.warning(
                "request.refused",
                extra=fields(method=request.method, path=request.url.path, error=error.what),
            )
            await _drain(request)
            problem = json.dumps(to_problem(error))
            if request.method == "HEAD":  # has no body
                return Response(status_code=status_of(error), headers={"X-Problem": problem})
            return Response(problem, status_of(error), media_type="application/problem+json")

    return guarded


def _content_length(request: Request) -> int:
    text = request.headers.get("content-length", "")
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InvalidInputError(
            "the object's size is not announced", advice="send Content-Length, not chunks"
        )
    return int(text)


async def _with_body(
    request: Request,
    store: Callable[[Iterator[bytes]], Stat],
    *,
    size_bytes: int,
    stall_s: float,
    limiter: anyio.CapacityLimiter,
) -> Stat:
    """Run a blocking `store` in a thread that pulls the request's body block by block."""
    body = request.stream()
    deadline_s = stall_s + size_bytes / SLOWEST_BYTES_S
    end = anyio.current_time() + deadline_s

    async def next_block() -> bytes | None:
        with anyio.move_on_after(min(stall_s, end - anyio.current_time())):
            return await anext(body, None)
        raise DeadlineError("receiving the object", after_s=deadline_s)

    def blocks() -> Iterator[bytes]:
        while (block := anyio.from_thread.run(next_block)) is not None:
            yield block

    return await anyio.to_thread.run_sync(store, blocks(), limiter=limiter)


async def _drain(request: Request) -> None:
    """Read what the client still sends for a moment, so that it reads our answer instead of a reset."""
    with anyio.move_on_after(DRAIN_S):
        try:
            async for _ in request.stream():
                pass
        except (ClientDisconnect, RuntimeError):
            return  # gone, or the body was read already


def _to_row(stat: Stat) -> dict[str, object]:
    return {
        "path": stat.path,
        "size_bytes": stat.size_bytes,
        "sha256": stat.sha256,
        "stored_at": stat.stored_at.isoformat(),
    }
