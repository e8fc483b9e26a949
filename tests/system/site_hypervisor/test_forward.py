"""Doors from a site's network to one service each."""

import socket
from contextlib import asynccontextmanager

import anyio
import pytest

from cernvm.net.listening import open_listener
from cernvm.site import forward
from cernvm.site.forward import Forward

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def door(host, port):
    """An open door to (host, port); yields the address that instances would use."""
    listener = open_listener("127.0.0.1", 0)
    address = listener.getsockname()
    async with anyio.create_task_group() as group:
        group.start_soon(Forward(listener, host, port).serve)
        yield address
        group.cancel_scope.cancel()


@asynccontextmanager
async def service(answer):
    """A service that treats each connection with `answer`."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        yield listener.extra(anyio.abc.SocketAttribute.raw_socket).getsockname()
        group.cancel_scope.cancel()


async def read_all(stream):
    return b"".join([part async for part in stream])


async def reverse(stream):
    """Read to the end, then answer: needs that each direction ends by itself."""
    async with stream:
        await stream.send((await read_all(stream))[::-1])


async def test_each_direction_ends_by_itself(anyio_backend):
    text = bytes(range(256)) * 8192
    async with (
        service(reverse) as target,
        door(*target) as address,
        await anyio.connect_tcp(*address) as stream,
    ):
        await stream.send(text)
        await stream.send_eof()
        with anyio.fail_after(10):
            assert await read_all(stream) == text[::-1]


async def test_a_service_that_is_away_is_a_closed_connection_and_comes_back(caplog):
    placeholder = open_listener("127.0.0.1", 0)
    target = placeholder.getsockname()
    placeholder.close()
    async with door(*target) as address:
        async with await anyio.connect_tcp(*address) as stream:
            with anyio.fail_after(5):
                assert await read_all(stream) == b""
        assert "forward.failed" in caplog.text
        listener = await anyio.create_tcp_listener(local_host=target[0], local_port=target[1])
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, reverse)
            async with await anyio.connect_tcp(*address) as stream:
                await stream.send(b"ab")
                await stream.send_eof()
                assert await read_all(stream) == b"ba"
            group.cancel_scope.cancel()


async def test_a_reset_ends_both_sides_at_once():
    arrived, ended = anyio.Event(), anyio.Event()

    async def listen(stream):
        async with stream:
            await stream.receive()
            arrived.set()
            try:
                await read_all(stream)
            except anyio.BrokenResourceError:
                pass
            ended.set()

    async with service(listen) as target, door(*target) as address:
        client = socket.create_connection(address)
        client.sendall(b"x")
        with anyio.fail_after(5):
            await arrived.wait()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            await ended.wait()


async def test_one_instance_cannot_take_all_connections(monkeypatch, caplog):
    monkeypatch.setattr(forward, "CONNECTIONS_PER_INSTANCE", 3)

    async def hold(stream):
        async with stream:
            await stream.send(b"hello")
            await read_all(stream)

    async with service(hold) as target, door(*target) as address:
        streams = [await anyio.connect_tcp(*address) for _ in range(3)]
        for stream in streams:
            assert await stream.receive() == b"hello"
        async with await anyio.connect_tcp(*address) as one_too_many:
            with anyio.fail_after(5):
                assert await read_all(one_too_many) == b""
        assert "forward.refused" in caplog.text

        other = await anyio.connect_tcp(*address, local_host="127.0.0.2")
        assert await other.receive() == b"hello"

        await streams[0].aclose()
        await other.aclose()
        with anyio.fail_after(5):
            again = await anyio.connect_tcp(*address)
            while not await _greets(again):
                await again.aclose()
                again = await anyio.connect_tcp(*address)
        for stream in (*streams, again):
            await stream.aclose()


async def _greets(stream):
    try:
        return await stream.receive() == b"hello"
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return False
