"""The supervisor over a hypervisor that starts nothing: what is wanted and what runs come to agree."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path

import anyio
import pytest

from cernvm.core.clock import FakeClock
from cernvm.core.errors import SpaceError, UnavailableError
from cernvm.site import lifecycle as lifecycle_module
from cernvm.site.hypervisor.memory import MemoryHypervisor
from cernvm.site.instance import BY_ITSELF, BY_USER, Image, State
from cernvm.site.lifecycle import Lifecycle
from cernvm.site.query import RunInstances
from cernvm.site.state import Limits, open_state
from cernvm.site.trees import FolderTrees

pytestmark = pytest.mark.anyio

IMAGE = Image("cernvm", "os.cernvm.test")
LIMITS = Limits(10, IPv4Network("10.77.0.0/24"))
OWNER = "predrag"


@pytest.fixture
def anyio_backend():
    return "asyncio"


class World:
    """One site without processes."""

    def __init__(self, folder):
        self.clock = FakeClock(datetime(2026, 11, 21, tzinfo=UTC))
        self.state = open_state(folder, self.clock)
        self.state.offer_images([IMAGE])
        self.state.ensure_owner(OWNER)
        self.hypervisor = MemoryHypervisor()
        self.trees = FolderTrees({"os.cernvm.test": Path("/os"), "sft.cernvm.test": Path("/sft")})
        self.lifecycle = self.fresh()

    def fresh(self):
        return Lifecycle(self.state, self.hypervisor, self.trees, repositories=("sft.cernvm.test",))

    def reserve(self, number=1):
        request = RunInstances(IMAGE.image_id, number, number)
        started = self.state.reserve(OWNER, request, LIMITS)
        self.lifecycle.wake()
        return [instance.instance_id for instance in started]

    def terminate(self, *names):
        self.state.request_termination(names, owner_id=OWNER, reason=BY_USER)
        self.lifecycle.wake()

    async def reach(self, name, state):
        for _ in range(100):
            if (instance := self.state.instance(name)).state is state:
                return instance
            await anyio.sleep(0.05)
        raise AssertionError(f"{name} did not become {state}: {self.state.instance(name)}")

    @asynccontextmanager
    async def running(self):
        self.lifecycle = self.fresh()
        await self.lifecycle.resume()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.lifecycle.run)
            yield
            tasks.cancel_scope.cancel()


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(lifecycle_module, "POLL_S", 0.05)
    made = World(tmp_path / "site")
    yield made
    made.state.close()


async def test_an_instance_comes_up_with_its_root_and_repositories(world):
    async with world.running():
        (name,) = world.reserve()
        await world.reach(name, State.RUNNING)

    spec = world.hypervisor.machines[name].spec
    assert (spec.root, spec.hostname) == (Path("/os"), "ip-10-77-0-2")
    assert spec.repositories == {"sft.cernvm.test": Path("/sft")}


async def test_one_that_cannot_start_ends_with_the_reason(world):
    world.hypervisor.fail_next = SpaceError("the disk is full")
    async with world.running():
        (name,) = world.reserve()
        gone = await world.reach(name, State.TERMINATED)

    assert (gone.reason.code, gone.reason.text) == ("Server.InternalError", "the disk is full")
    assert name not in world.hypervisor.machines


async def test_one_whose_repository_cannot_be_mounted_ends_with_the_reason(world):
    world.trees.folders.clear()
    async with world.running():
        (name,) = world.reserve()
        gone = await world.reach(name, State.TERMINATED)

    assert "os.cernvm.test" in gone.reason.text


async def test_a_failure_of_one_leaves_the_others_alone(world):
    world.hypervisor.fail_next = UnavailableError("no luck")
    async with world.running():
        names = world.reserve(3)
        for _ in range(100):
            states = sorted(world.state.instance(name).state.value for name in names)
            if states == ["running", "running", "terminated"]:
                break
            await anyio.sleep(0.05)

    assert states == ["running", "running", "terminated"]


@pytest.mark.parametrize("status", [0, 1])
async def test_one_whose_init_ends_is_terminated_with_its_last_words_kept(world, status):
    async with world.running():
        (name,) = world.reserve()
        await world.reach(name, State.RUNNING)
        world.hypervisor.write(name, b"last words\n")
        world.hypervisor.end(name, status=status)
        gone = await world.reach(name, State.TERMINATED)
        console = await world.lifecycle.console(gone)

    assert gone.reason.code == "Client.InstanceInitiatedShutdown"
    assert f"status {status}" in gone.reason.text
    assert console.endswith(b"last words\n")
    assert name not in world.hypervisor.machines


async def test_one_that_was_discarded_when_the_database_did_not_answer_ends(world):
    (name,) = world.reserve()
    async with world.running():
        await world.reach(name, State.RUNNING)

        await world.hypervisor.discard(name)

        ended = await world.reach(name, State.TERMINATED)
    assert ended.reason.code == BY_ITSELF.code


async def test_one_that_came_up_when_the_database_did_not_answer_runs(world):
    (name,) = world.reserve()
    async with world.running():
        await world.reach(name, State.RUNNING)
    spec = world.hypervisor.machines[name].spec
    world.hypervisor = MemoryHypervisor()
    await world.lifecycle.resume()  # pending again
    world.lifecycle = world.fresh()
    await world.hypervisor.start(spec)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.lifecycle.run)
        await world.reach(name, State.RUNNING)
        tasks.cancel_scope.cancel()

    assert world.hypervisor.machines[name].state.is_running


async def test_one_terminated_before_it_came_up_ends(world):
    async with world.running():
        (name,) = world.reserve()
        world.terminate(name)
        await world.reach(name, State.TERMINATED)

    assert name not in world.hypervisor.machines


async def test_a_new_site_starts_what_ran_with_the_same_address(world):
    async with world.running():
        (name,) = world.reserve()
        before = await world.reach(name, State.RUNNING)
    world.hypervisor = MemoryHypervisor()

    async with world.running():
        after = await world.reach(name, State.RUNNING)
        assert name in world.hypervisor.machines
    assert after.address == before.address


async def test_a_new_site_ends_what_was_ending(world):
    (name,) = world.reserve()
    world.terminate(name)

    async with world.running():
        await world.reach(name, State.TERMINATED)


async def test_a_new_site_discards_what_it_does_not_know(world):
    async with world.running():
        (name,) = world.reserve()
        await world.reach(name, State.RUNNING)
    world.state.move(name, State.TERMINATED)

    async with world.running():
        assert name not in world.hypervisor.machines


async def test_a_repository_mounted_anew_restarts_its_instances_with_address_and_layer(world):
    async with world.running():
        (name,) = world.reserve()
        before = await world.reach(name, State.RUNNING)
        first = world.hypervisor.machines[name]
        world.trees.remount("sft.cernvm.test")
        for _ in range(100):
            if world.hypervisor.machines[name] is not first:
                break
            await anyio.sleep(0.05)
        after = await world.reach(name, State.RUNNING)

    assert world.hypervisor.machines[name] is not first
    assert after.address == before.address


async def test_what_ended_long_ago_is_forgotten_and_its_token_with_it(world):
    async with world.running():
        (name,) = world.reserve()
        world.terminate(name)
        await world.reach(name, State.TERMINATED)

    assert world.state.forget_terminated() == 0
    world.clock.advance(3601)
    assert world.state.forget_terminated() == 1
    assert world.state.instances() == []


async def test_an_address_is_given_again_only_when_all_others_were(world):
    limits = Limits(10, IPv4Network("10.77.0.0/29"))  # five addresses
    request = RunInstances(IMAGE.image_id, 1, 1)
    given = []
    for _ in range(7):
        (instance,) = world.state.reserve(OWNER, request, limits)
        given.append(str(instance.address))
        world.clock.advance(1)
        world.state.move(instance.instance_id, State.TERMINATED)

    assert len(set(given[:5])) == 5
    assert given[5:] == given[:2]


async def test_no_address_is_given_twice(world):
    limits = Limits(10, IPv4Network("10.77.0.0/29"))
    held = world.state.reserve(OWNER, RunInstances(IMAGE.image_id, 1, 9), limits)

    assert len({instance.address for instance in held}) == len(held) == 5
    with pytest.raises(SpaceError, match="0 addresses"):
        world.state.reserve(OWNER, RunInstances(IMAGE.image_id, 1, 1), limits)
