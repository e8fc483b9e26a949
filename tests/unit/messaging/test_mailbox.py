import random

import anyio
import pytest

from cernvm.messaging import Ack, MemoryNetwork, Message


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(4))
async def test_every_command_arrives_once_although_much_is_lost(seed):
    luck = random.Random(seed)
    network = MemoryNetwork()
    network.loses = lambda _: luck.random() < 0.3
    got = []

    async def listen(bus):
        async for item in bus.incoming():
            got.append(item.text("n"))  # noqa: PERF401  # the bus does not end by itself

    async with (
        network.connect("a@grid.test/1", first_resend_s=0.005) as sender,
        network.connect("b@grid.test/1") as other,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listen, other)
        async with anyio.create_task_group() as sending:
            for number in range(10):
                sending.start_soon(sender.send, other.address, "count", {"n": str(number)})
        tasks.cancel_scope.cancel()

    assert sorted(got, key=int) == [str(number) for number in range(10)]


@pytest.mark.anyio
async def test_a_message_that_wants_no_receipt_gets_none():
    network = MemoryNetwork()
    seen = []
    network.loses = lambda item: bool(seen.append(item))
    async with network.connect("a@grid.test/1"), network.connect("b@grid.test/1"):
        network.route(Message("1", "a@grid.test/1", "b@grid.test/1", "ping", wants_ack=False))
        network.route(Message("2", "a@grid.test/1", "b@grid.test/1", "ping"))

    assert [item.id for item in seen if isinstance(item, Ack)] == ["2"]
