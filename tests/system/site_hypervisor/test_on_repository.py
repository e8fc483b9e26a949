"""An instance whose operating system arrives over CernVM-FS, all of it real: publish, serve, mount, start."""

import os
import signal
import subprocess

import pytest

from cernvm.site.config import Export
from cernvm.site.exports import RepositoryMounts
from system.published import published
from system.site_hypervisor.roots import bash, eventually

pytestmark = pytest.mark.anyio
OS = "os.cernvm.test"
SAY = """
cat /etc/os /cvmfs/os.cernvm.test/etc/os; ls /root; touch /root/mine
echo ready; trap 'exit 0' TERM; sleep 60 & wait
"""


@pytest.fixture
def served(cvm, home, tiny_root):
    """The url of the tiny operating system's repository."""
    with published(cvm, home, OS, tiny_root) as url:
        yield f"{url}/cvmfs/{OS}"


async def test_an_instance_lives_on_a_repository_and_survives_its_mount(
    need_fuse, served, home, running, spec, monkeypatch
):
    monkeypatch.setenv("CVM_HOME", str(home.path))
    mounts = RepositoryMounts(
        [Export(OS, served, home.keys / f"{OS}.pub")],
        folder=home.site / "mounts",
        cache=home.cache,
        log_folder=home.log,
    )

    async def boot(hypervisor, mounted):
        machine = spec(root=mounted.path, repositories={OS: mounted.path}, init=bash(SAY))
        before = len(await hypervisor.console(machine.instance_id)) if mounted.generation > 1 else 0
        await hypervisor.start(machine)

        async def is_ready():
            return (await hypervisor.console(machine.instance_id))[before:].endswith(b"ready\n")

        await eventually(is_ready, 20)
        return (await hypervisor.console(machine.instance_id))[before:].decode().split()

    async with mounts as repositories, running() as hypervisor:
        first = await repositories.mounted(OS)
        assert await boot(hypervisor, first) == ["tiny", "tiny", "ready"]

        os.kill(_mount_process(first.path), signal.SIGKILL)

        async def is_back():
            return (await repositories.mounted(OS)).generation == 2

        await eventually(is_back, 20)
        await hypervisor.stop("i-00000001", grace_s=2)
        second = await repositories.mounted(OS)
        assert await boot(hypervisor, second) == ["tiny", "tiny", "mine", "ready"]


def _mount_process(place):
    """The child of this process that serves a mount."""
    listing = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return next(int(line.split()[0]) for line in listing.splitlines() if str(place) in line)
