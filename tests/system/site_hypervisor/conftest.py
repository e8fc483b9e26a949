"""A root for instances, a network, a hypervisor, and machines to start on it."""

import os
from contextlib import asynccontextmanager
from ipaddress import IPv4Address

import pytest

from cernvm.site.bridge import BridgeNetwork
from cernvm.site.hypervisor.container import ContainerHypervisor
from cernvm.site.hypervisor.port import MachineSpec
from conftest import missing
from system.site_hypervisor.roots import bash, eventually, make_tiny_root

WAIT = "trap 'exit 0' TERM; echo ready; while :; do sleep 60 & wait; done"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    return make_tiny_root(tmp_path_factory.mktemp("root"))


@pytest.fixture
def network():
    if os.geteuid() != 0:
        missing("namespaces need root here, or a user namespace")
    network = BridgeNetwork()
    yield network
    network.close()


@pytest.fixture
def spec(tiny_root):
    """A specification; keywords replace what is usual."""

    def make(number=1, script=WAIT, **changes):
        usual = {
            "instance_id": f"i-{number:08x}",
            "hostname": f"worker{number}",
            "address": IPv4Address(f"10.77.0.{number + 1}"),
            "root": tiny_root,
            "init": bash(script),
        }
        return MachineSpec(**{**usual, **changes})

    return make


@pytest.fixture
def running(home, network):
    """`async with running(spec, …) as hypervisor`: all of them started."""

    @asynccontextmanager
    async def start(*specs):
        async with ContainerHypervisor(home.site / "instances", network) as hypervisor:
            for spec in specs:
                await hypervisor.start(spec)
            yield hypervisor

    return start


@pytest.fixture
def output(running):
    """What one instance's script prints until it ends, as text."""

    async def run(spec, timeout_s=10):
        async with running(spec) as hypervisor:

            async def has_ended():
                return not (await hypervisor.state(spec.instance_id)).is_running

            await eventually(has_ended, timeout_s)
            return (await hypervisor.console(spec.instance_id)).decode()

    return run
