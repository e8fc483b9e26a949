"""The job agent among twins: a bus, a queue and a storage in memory, and a pilot that says what the test wants."""

import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from cernvm.core.clock import SystemClock
from cernvm.core.errors import HostError, SignatureError
from cernvm.messaging import MemoryNetwork, Message
from cernvm.pilot import commands, lease
from cernvm.pilot.commands import Ending
from cernvm.pilot.depot import Depot
from cernvm.pilot.job import Job, JobState, Output
from cernvm.pilot.jobs_agent import JobsAgent
from cernvm.pilot.memory import MemoryQueue
from cernvm.storage.memory import MemoryStorage

pytestmark = pytest.mark.anyio

CONTENT = b"events"
OUTPUT = Output("a.root", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
JOBS = "jobs@grid.test"


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Pilot:
    def __init__(self, bus):
        self.bus = bus

    async def say(self, command, fields=None, expect=None):
        await self.bus.send(JOBS, command, fields or {"agentHost": "vm"}, deadline_s=5)
        return None if expect is None else await self.hear(expect)

    async def hear(self, command):
        with anyio.fail_after(5):
            async for item in self.bus.incoming():
                if isinstance(item, Message) and item.command == command:
                    break
        return item

    async def take_job(self):
        await self.say(commands.WANT_JOB, expect=commands.HAVE_JOB)
        return commands.read_order(await self.say(commands.GET_JOB, expect=commands.RUN_JOB))

    async def declare(self, key, made=(OUTPUT,)):
        fields = commands.declaration_fields(key, "vm", made)
        answer = await self.say(commands.GET_OUTPUT_DIR, fields, commands.STORE_OUTPUT_DIR)
        return commands.read_destination(answer)

    async def done(self, key, expect):
        return await self.say(
            commands.JOB_DONE, commands.ending_fields(Ending(key, is_good=True), "vm"), expect
        )


class World:
    def __init__(self):
        self.network = MemoryNetwork()
        self.queue = MemoryQueue()
        self.storage = MemoryStorage()
        self.is_away = False
        self.has_another_key = False
        self.queue.submit([Job("7", "", ("evgen",), outputs=("a.root",))])

    def open_storage(self, _token):
        if self.is_away:
            raise HostError("storage", "away")
        if self.has_another_key:
            raise SignatureError("this token was not made by this storage's key")
        return self.storage

    def put(self, folder, content=CONTENT):
        digest = hashlib.sha256(content).hexdigest()
        self.storage.put(f"{folder}/a.root", [content], size_bytes=len(content), sha256=digest)

    @property
    def job(self):
        return self.queue.jobs()[0]

    @asynccontextmanager
    async def agent(self, **settings):
        depot = Depot("http://10.77.0.1:8010", b"k" * 32, self.open_storage)
        async with self.network.connect(f"{JOBS}/1") as bus, anyio.create_task_group() as tasks:
            tasks.start_soon(JobsAgent(self.queue, bus, depot, **settings).run)
            yield
            tasks.cancel_scope.cancel()

    @asynccontextmanager
    async def pilot(self, name="1"):
        async with self.network.connect(f"pilot@grid.test/{name}") as bus:
            await bus.announce(JOBS)
            yield Pilot(bus)


@pytest.fixture
def world():
    return World()


async def test_a_job_is_done_when_the_storage_confirms_it(world):
    async with world.agent(), world.pilot() as pilot:
        order = await pilot.take_job()
        destination = await pilot.declare(order.key)
        world.put(destination.folder)

        await pilot.done(order.key, commands.JOB_ACCEPTED)
        await pilot.done(order.key, commands.JOB_ACCEPTED)

    assert destination.url == "http://10.77.0.1:8010"
    assert (world.job.state, world.job.declared) == (JobState.DONE, (OUTPUT,))


@pytest.mark.parametrize("fault", ["missing", "altered", "another"])
async def test_a_job_whose_output_is_not_right_does_not_count(world, fault):
    async with world.agent(), world.pilot() as pilot:
        order = await pilot.take_job()
        destination = await pilot.declare(order.key)
        if fault == "altered":
            world.put(destination.folder)
            world.storage.alter(f"{destination.folder}/a.root", b"Events")
        if fault == "another":
            world.put(destination.folder, b"other events")

        await pilot.done(order.key, commands.DROP_JOB)

        assert world.job.state is JobState.WAITING
        assert "a.root" in world.job.reason
        again = await pilot.take_job()

    assert again.key == replace(order.key, fence=2)


async def test_while_the_storage_is_away_nothing_is_decided(world):
    async with world.agent(), world.pilot() as pilot:
        order = await pilot.take_job()
        destination = await pilot.declare(order.key)
        world.put(destination.folder)
        world.is_away = True
        await pilot.done(order.key, None)
        await anyio.sleep(0.1)
        assert world.job.state.is_active

        world.is_away = False
        await pilot.done(order.key, commands.JOB_ACCEPTED)

    assert world.job.state is JobState.DONE


async def test_a_storage_with_another_key_ends_no_job_agent(world):
    async with world.agent(), world.pilot() as pilot:
        order = await pilot.take_job()
        destination = await pilot.declare(order.key)
        world.put(destination.folder)
        world.has_another_key = True
        await pilot.done(order.key, None)
        await anyio.sleep(0.1)
        assert world.job.state.is_active

        world.has_another_key = False
        await pilot.done(order.key, commands.JOB_ACCEPTED)

    assert world.job.state is JobState.DONE


async def test_a_pilot_that_asked_too_early_is_called_when_a_job_comes(world):
    async with world.agent(), world.pilot() as pilot:
        await pilot.take_job()
        await pilot.say(commands.WANT_JOB)
        world.queue.submit([Job("8", "", ("true",))])

        await pilot.hear(commands.HAVE_JOB)


async def test_a_silent_pilots_job_goes_to_another(world):
    async with world.agent(lease_s=0.3), world.pilot("1") as first, world.pilot("2") as second:
        old = await first.take_job()
        await second.say(commands.WANT_JOB, expect=commands.HAVE_JOB)
        new = commands.read_order(await second.say(commands.GET_JOB, expect=commands.RUN_JOB))

        await first.say(commands.JOB_RUNNING, old.key.to_fields(), commands.DROP_JOB)

    assert new.key.fence == 2


async def test_a_pilot_seen_leaving_loses_its_job_soon(world):
    async with world.agent(lease_s=600, absence_s=0.2):
        async with world.pilot("1") as first:
            await first.take_job()
        async with world.pilot("2") as second:
            await second.say(commands.WANT_JOB)
            await second.hear(commands.HAVE_JOB)

    assert world.job.state is JobState.WAITING


async def test_a_restarted_agent_leaves_pilots_their_jobs(world):
    async with world.pilot() as pilot:
        async with world.agent(lease_s=1):
            order = await pilot.take_job()
        await anyio.sleep(1.1)
        async with world.agent(lease_s=5):
            await anyio.sleep(0.2)
            destination = await pilot.declare(order.key)
            world.put(destination.folder)
            await pilot.done(order.key, commands.JOB_ACCEPTED)

    assert (world.job.state, world.job.attempt) == (JobState.DONE, 1)


async def test_a_cancelled_job_is_dropped_by_its_pilot(world):
    async with world.agent(), world.pilot() as pilot:
        order = await pilot.take_job()
        world.queue.change("7", lambda job: lease.cancel(job, now=SystemClock().now()))

        dropped = await pilot.say(commands.JOB_RUNNING, order.key.to_fields(), commands.DROP_JOB)

    assert "cancelled" in dropped.text("reason")


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        (commands.JOB_DONE, {}),
        (commands.JOB_DONE, {"jobID": "7", "jmJobData": "x", "state": "done"}),
        (commands.GET_OUTPUT_DIR, {"jobID": "7", "jmJobData": "1", "outputs": "x"}),
        (commands.JOB_RUNNING, {"jobID": {}}),
        ("noSuchCommand", {}),
    ],
)
async def test_nonsense_changes_nothing_and_ends_nothing(world, command, fields):
    async with world.agent(), world.pilot() as pilot:
        await pilot.say(command, fields)

        await pilot.take_job()


async def test_another_pilots_word_about_a_job_is_refused(world):
    async with world.agent(), world.pilot("1") as pilot, world.pilot("2") as other:
        order = await pilot.take_job()
        key = order.key

        for command, fields in (
            (commands.JOB_RUNNING, key.to_fields()),
            (commands.GET_OUTPUT_DIR, commands.declaration_fields(key, "vm", [OUTPUT])),
            (commands.JOB_DONE, commands.ending_fields(Ending(key, is_good=False), "vm")),
        ):
            await other.say(command, fields, commands.DROP_JOB)
        await other.say(commands.GIVE_BACK, key.to_fields(reason="mine", counts="1"))
        await anyio.sleep(0.1)

    assert world.job.state is JobState.LEASED


async def test_a_word_with_another_fence_is_refused(world):
    async with world.agent(), world.pilot() as pilot:
        order = await pilot.take_job()
        for fence in (0, 2, 99):
            await pilot.done(replace(order.key, fence=fence), commands.DROP_JOB)
        await pilot.done(replace(order.key, job_id="no-such"), commands.DROP_JOB)

    assert world.job.state.is_active
