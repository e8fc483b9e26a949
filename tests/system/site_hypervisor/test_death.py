"""What is left when a part is killed: nothing of the instances, and all that the next site needs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from cernvm.site.hypervisor.port import Phase
from system.site_hypervisor.roots import eventually

TESTS = Path(__file__).parents[2]


@pytest.fixture
def supervisor(home, tiny_root):
    """Start a supervisor in a process of its own."""
    started = []

    def start(count, *words):
        process = subprocess.Popen(
            [sys.executable, "-m", "system.site_hypervisor.site_process",
             home.site / "instances", tiny_root, str(count), *words],
            cwd=TESTS, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_everything_dies_with_its_supervisor(supervisor):
    process = supervisor(2)
    while len(family := descendants(process.pid)) < 2 + 2 + 4:  # launchers, inits, what these start
        time.sleep(0.02)

    process.kill()

    assert_gone(family, process)


@pytest.mark.soak
def test_a_supervisor_killed_at_any_moment_leaves_nothing(supervisor, seeded, count, home):
    for _ in range(count(50)):
        process = supervisor(1, "churn")
        time.sleep(seeded.uniform(0, 0.3))
        family = descendants(process.pid)

        process.kill()

        assert_gone(family, process)


@pytest.mark.anyio
async def test_the_next_site_starts_what_the_killed_one_ran(supervisor, running, spec):
    process = supervisor(2)
    process.kill()
    process.wait()

    async with running() as hypervisor:
        state = await hypervisor.state("i-00000001")
        assert (state.phase, state.reason) == (Phase.STOPPED, "not started since the site began")
        assert await hypervisor.sweep({"i-00000001"}) == ("i-00000002",)
        await hypervisor.start(spec(1))
        assert (await hypervisor.state("i-00000001")).is_running


@pytest.mark.anyio
async def test_killing_an_init_is_a_failure_with_its_cause(spec, running):
    async with running(spec(1)) as hypervisor:
        (launcher,) = children(os.getpid(), "hypervisor.launch")
        (init,) = children(launcher)
        os.kill(init, signal.SIGKILL)

        async def has_ended():
            return not (await hypervisor.state("i-00000001")).is_running

        await eventually(has_ended)
        state = await hypervisor.state("i-00000001")

    assert (state.phase, state.reason) == (Phase.FAILED, "init was killed by SIGKILL")


@pytest.mark.anyio
async def test_killing_a_launcher_ends_its_instance_only(spec, running):
    async with running(spec(1), spec(2)) as hypervisor:
        launchers = children(os.getpid(), "hypervisor.launch")
        inits = [child for launcher in launchers for child in children(launcher)]
        os.kill(launchers[0], signal.SIGKILL)

        async def has_ended():
            return not (await hypervisor.state("i-00000001")).is_running

        await eventually(has_ended)
        state = await hypervisor.state("i-00000001")
        assert (state.phase, state.reason) == (Phase.FAILED, "its launcher was killed")
        assert not os.access(f"/proc/{inits[0]}/root/etc", os.F_OK)
        assert (await hypervisor.state("i-00000002")).is_running
        with anyio.fail_after(5):
            await hypervisor.start(spec(1))


@pytest.mark.anyio
async def test_a_launcher_that_hangs_does_not_hang_the_site(spec, running, monkeypatch):
    monkeypatch.setattr("cernvm.site.hypervisor.keeper._KILL_TIMEOUT_S", 0.5)
    async with running(spec(1)) as hypervisor:
        (launcher,) = children(os.getpid(), "hypervisor.launch")
        os.kill(launcher, signal.SIGSTOP)

        with anyio.fail_after(5):
            await hypervisor.stop("i-00000001", grace_s=0.1)

        assert not (await hypervisor.state("i-00000001")).is_running


def test_no_launcher_outlives_a_site_that_ended_before_the_order(tmp_path):
    """The socket closes before a word was said."""
    import socket

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-I", "-m", "cernvm.site.hypervisor.launch"]
    process = subprocess.Popen(
        [*command, str(theirs.fileno()), tmp_path / "console"], pass_fds=(theirs.fileno(),)
    )
    theirs.close()
    ours.close()

    assert process.wait(10) == 0


def children(pid, command=""):
    """Ids of a process's children, of any of its threads, whose command line contains `command`; oldest first."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    ids = [int(text) for task in tasks for text in (task / "children").read_text().split()]
    return sorted(i for i in ids if command.encode() in Path(f"/proc/{i}/cmdline").read_bytes())


def descendants(pid):
    """(id, start tick) of all processes below one."""
    found, below = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            values = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(values[1]), []).append((int(stat.parent.name), values[19]))
    waiting = [pid]
    while waiting:
        for child, tick in below.get(waiting.pop(), ()):
            found[child] = tick
            waiting.append(child)
    return found


def assert_gone(family, supervisor):
    supervisor.wait()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        left = {pid for pid, tick in family.items() if is_alive(pid, tick)}
        if not left:
            return
        time.sleep(0.02)
    pytest.fail(f"left running: {left}")


def is_alive(pid, tick):
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return values[0] not in "ZX" and values[19] == tick
