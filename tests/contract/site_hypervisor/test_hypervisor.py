"""What every hypervisor promises, asked of the twin and of containers."""

import os
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import anyio
import pytest

from cernvm.core.errors import CvmError, ExistsError, InvalidInputError, NotFoundError
from cernvm.site.bridge import BridgeNetwork
from cernvm.site.hypervisor.container import ContainerHypervisor
from cernvm.site.hypervisor.memory import MemoryHypervisor
from cernvm.site.hypervisor.port import CONSOLE_BYTES, MachineSpec, Phase
from conftest import missing
from system.site_hypervisor.roots import bash, eventually, make_tiny_root

pytestmark = pytest.mark.anyio
FIRST, SECOND = "i-00000001", "i-00000002"

# obeys SIGTERM, ends with the number in `end`, prints what stands in `say`
INIT = """
trap 'exit 0' TERM
while :; do
    [ -e /cvmfs/tests.cernvm.test/end ] && exit $(cat /cvmfs/tests.cernvm.test/end)
    [ -e /cvmfs/tests.cernvm.test/say ] && [ ! -e /said ] && cat /cvmfs/tests.cernvm.test/say && touch /said
    sleep 0.05
done
"""


class Memory:
    """The twin, and how tests move its machines."""

    def __init__(self):
        self.hypervisor = MemoryHypervisor()

    def spec(self, instance_id):
        return MachineSpec(instance_id, "worker", _address(instance_id), Path("/os"))

    async def end(self, instance_id, status):
        self.hypervisor.end(instance_id, status=status)

    async def say(self, instance_id, text):
        self.hypervisor.write(instance_id, text)

    async def break_next(self, spec):
        self.hypervisor.fail_next = NotFoundError("program", "/usr/sbin/cernvm-init")
        return spec


class Containers:
    """Containers, whose init obeys files in a folder that they see as a repository."""

    def __init__(self, hypervisor, root, orders):
        self.hypervisor, self.root, self.orders = hypervisor, root, orders

    def spec(self, instance_id, init=None):
        orders = self.orders / instance_id
        orders.mkdir(exist_ok=True)
        (orders / "end").unlink(missing_ok=True)
        return MachineSpec(
            instance_id,
            "worker",
            _address(instance_id),
            self.root,
            {"tests.cernvm.test": orders},
            init or bash(INIT),
        )

    async def end(self, instance_id, status):
        (self.orders / instance_id / "end").write_text(str(status))
        await eventually(partial(self._has_ended, instance_id))

    async def say(self, instance_id, text):
        (self.orders / instance_id / "new").write_bytes(text)
        (self.orders / instance_id / "new").rename(self.orders / instance_id / "say")
        await eventually(partial(self._has_said, instance_id, text[-1000:]))

    async def break_next(self, spec):
        return self.spec(spec.instance_id, init=("/usr/sbin/cernvm-init",))

    async def _has_ended(self, instance_id):
        return not (await self.hypervisor.state(instance_id)).is_running

    async def _has_said(self, instance_id, end):
        return (await self.hypervisor.console(instance_id)).endswith(end)


def _address(instance_id):
    return IPv4Address(f"10.77.0.{int(instance_id.removeprefix('i-'), base=16) + 1}")


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    return make_tiny_root(tmp_path_factory.mktemp("root"))


@pytest.fixture(params=["memory", "containers"])
async def rig(request, tmp_path, anyio_backend):
    if request.param == "memory":
        yield Memory()
        return
    if os.geteuid() != 0:
        missing("namespaces need root here, or a user namespace")
    (tmp_path / "orders").mkdir()
    network = BridgeNetwork()
    async with ContainerHypervisor(tmp_path / "instances", network) as hypervisor:
        root = request.getfixturevalue("tiny_root")
        yield Containers(hypervisor, root, tmp_path / "orders")
    network.close()


async def test_a_started_machine_runs(rig):
    await rig.hypervisor.start(rig.spec(FIRST))

    assert (await rig.hypervisor.state(FIRST)).phase is Phase.RUNNING


async def test_a_running_machine_is_not_started_twice(rig):
    await rig.hypervisor.start(rig.spec(FIRST))

    with pytest.raises(ExistsError):
        await rig.hypervisor.start(rig.spec(FIRST))


async def test_a_machine_is_stopped_by_request(rig):
    await rig.hypervisor.start(rig.spec(FIRST))

    await rig.hypervisor.stop(FIRST, grace_s=5)
    await rig.hypervisor.stop(FIRST, grace_s=5)

    state = await rig.hypervisor.state(FIRST)
    assert (state.phase, state.reason) == (Phase.STOPPED, "stopped by request")


@pytest.mark.parametrize(("status", "phase"), [(0, Phase.STOPPED), (3, Phase.FAILED)])
async def test_a_machine_whose_init_ends_is_told_from_one_that_fails(rig, status, phase):
    await rig.hypervisor.start(rig.spec(FIRST))

    await rig.end(FIRST, status)

    state = await rig.hypervisor.state(FIRST)
    assert (state.phase, state.reason) == (phase, f"init ended with status {status}")


async def test_an_ended_machine_is_started_again(rig):
    await rig.hypervisor.start(rig.spec(FIRST))
    await rig.end(FIRST, 3)

    await rig.hypervisor.start(rig.spec(FIRST))

    assert (await rig.hypervisor.state(FIRST)).is_running


async def test_a_failed_start_says_why_and_leaves_the_others_alone(rig):
    await rig.hypervisor.start(rig.spec(SECOND))
    broken = await rig.break_next(rig.spec(FIRST))

    with pytest.raises(CvmError, match="cernvm-init"):
        await rig.hypervisor.start(broken)

    assert (await rig.hypervisor.state(SECOND)).is_running
    await rig.hypervisor.start(rig.spec(FIRST))
    assert (await rig.hypervisor.state(FIRST)).is_running


async def test_the_console_shows_the_end_also_after_the_end(rig):
    text = b"".join(b"line %d\n" % number for number in range(50_000))
    await rig.hypervisor.start(rig.spec(FIRST))
    await rig.say(FIRST, text)
    await rig.hypervisor.stop(FIRST, grace_s=5)

    console = await rig.hypervisor.console(FIRST)

    assert len(console) == CONSOLE_BYTES
    assert console == text[-CONSOLE_BYTES:]


async def test_a_discarded_machine_is_unknown_running_or_not(rig):
    await rig.hypervisor.start(rig.spec(FIRST))

    await rig.hypervisor.discard(FIRST)
    await rig.hypervisor.discard(FIRST)

    for question in (rig.hypervisor.state(FIRST), rig.hypervisor.console(FIRST)):
        with pytest.raises(NotFoundError):
            await question


async def test_verbs_about_one_machine_take_turns_also_after_a_discard(rig):
    outcomes = []

    async def start():
        try:
            await rig.hypervisor.start(rig.spec(FIRST))
        except ExistsError:
            outcomes.append("runs already")
        else:
            outcomes.append("started")

    await rig.hypervisor.start(rig.spec(FIRST))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.hypervisor.discard, FIRST)
        await anyio.sleep(0.01)
        tasks.start_soon(start)
        await anyio.sleep(0.05)
        tasks.start_soon(start)

    assert sorted(outcomes) == ["runs already", "started"]


async def test_sweeping_discards_what_is_not_kept(rig):
    await rig.hypervisor.start(rig.spec(FIRST))
    await rig.hypervisor.start(rig.spec(SECOND))

    assert await rig.hypervisor.sweep({SECOND}) == (FIRST,)

    assert (await rig.hypervisor.state(SECOND)).is_running
    with pytest.raises(NotFoundError):
        await rig.hypervisor.state(FIRST)


@pytest.mark.parametrize("verb", ["stop", "state", "console"])
async def test_an_unknown_machine_is_not_found(rig, verb):
    more = {"grace_s": 1} if verb == "stop" else {}

    with pytest.raises(NotFoundError):
        await getattr(rig.hypervisor, verb)(FIRST, **more)


@pytest.mark.parametrize("instance_id", ["", "i-1", "../i-00000001", "i-0000000g", "i-" + "0" * 18])
async def test_what_is_no_instance_id_never_becomes_a_path(rig, instance_id):
    for question in (rig.hypervisor.state(instance_id), rig.hypervisor.discard(instance_id)):
        with pytest.raises(InvalidInputError):
            await question
