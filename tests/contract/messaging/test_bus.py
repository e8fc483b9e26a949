import uuid

import anyio
import pytest

from cernvm.core.errors import DeadlineError, NotFoundError
from cernvm.messaging import Message, Presence

pytestmark = pytest.mark.anyio


@pytest.fixture
def names():
    """Fresh account names: a queue of an earlier test is nobody's."""
    return f"a{uuid.uuid4().hex[:8]}", f"b{uuid.uuid4().hex[:8]}"


async def first(bus, kind=Message, deadline_s=5):
    with anyio.fail_after(deadline_s):
        async for item in bus.incoming():
            if isinstance(item, kind):
                break
    return item


async def test_a_command_arrives_with_its_fields_and_its_sender(place, names):
    fields = {"agentHost": "hôte ☃", "empty": "", "job": {"id": "7", "deep": {"x": "<&'\">"}}}
    async with place.connect(names[0], "one") as sender, place.connect(names[1], "two") as other:
        await sender.send(other.address, "runJob", fields, deadline_s=5)

        message = await first(other)

    assert (message.command, message.fields) == ("runJob", fields)
    assert message.sender == f"{names[0]}@grid.test/one"


async def test_a_command_to_an_account_reaches_whoever_is_connected_as_it(place, names):
    async with place.connect(names[0], "one") as sender, place.connect(names[1], "two") as other:
        await sender.send(f"{names[1]}@grid.test", "ping", {}, deadline_s=5)

        message = await first(other)

    assert message.recipient == f"{names[1]}@grid.test"


async def test_commands_arrive_in_order_and_once(place, names):
    async with place.connect(names[0], "one") as sender, place.connect(names[1], "two") as other:
        for number in range(20):
            await sender.send(other.address, "count", {"n": str(number)}, deadline_s=5)

        got = []
        async for item in other.incoming():
            got.append(item.text("n"))
            if len(got) == 20:
                break

    assert got == [str(number) for number in range(20)]


async def test_a_command_waits_for_a_recipient_that_is_away(place, names):
    place.account(names[1])
    async with place.connect(names[0], "one") as sender, anyio.create_task_group() as tasks:
        tasks.start_soon(sender.send, f"{names[1]}@grid.test", "ping", {})
        await anyio.sleep(0.3)
        async with place.connect(names[1], "two") as other:
            message = await first(other)
            await anyio.sleep(0.1)

    assert message.command == "ping"


async def test_a_command_nobody_takes_ends_at_its_deadline(place, names):
    place.account(names[1])
    async with place.connect(names[0], "one") as sender:
        with pytest.raises(DeadlineError, match="ping"):
            await sender.send(f"{names[1]}@grid.test", "ping", {}, deadline_s=0.4)


async def test_an_account_that_does_not_exist_is_named_at_once(place, names):
    async with place.connect(names[0], "one") as sender:
        with pytest.raises(NotFoundError, match="nobody"):
            await sender.send("nobody@grid.test", "ping", {}, deadline_s=5)


async def test_a_command_for_a_connection_that_is_gone_is_not_taken_by_another(place, names):
    async with place.connect(names[0], "one") as sender, place.connect(names[1], "new") as other:
        with pytest.raises(DeadlineError):
            await sender.send(f"{names[1]}@grid.test/old", "runJob", {}, deadline_s=0.5)
        await sender.send(other.address, "ping", {}, deadline_s=5)

        assert (await first(other)).command == "ping"


async def test_a_peer_that_announced_itself_is_seen_coming_and_going(place, names):
    async with place.connect(names[0], "one") as watcher:
        async with place.connect(names[1], "two") as other:
            await other.announce(f"{names[0]}@grid.test")
            came = await first(watcher, Presence)
        left = await first(watcher, Presence)

    assert came == Presence(f"{names[1]}@grid.test/two", is_available=True)
    assert left == Presence(f"{names[1]}@grid.test/two", is_available=False)


async def test_closing_ends_what_is_being_sent(place, names):
    place.account(names[1])
    failures = []

    async def send(bus):
        try:
            await bus.send(f"{names[1]}@grid.test", "ping", {}, deadline_s=20)
        except Exception as error:
            failures.append(type(error).__name__)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks, place.connect(names[0], "one") as sender:
            tasks.start_soon(send, sender)
            await anyio.sleep(0.1)

    assert failures == ["BusError"]
