"""What an instance sees of the host: nothing that is not named."""

import os
import socket
from ipaddress import IPv4Address

import anyio
import pytest

from cernvm.core.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    SpaceError,
    UnavailableError,
)
from cernvm.site.hypervisor.confine import KEPT
from cernvm.site.hypervisor.container import ContainerHypervisor
from cernvm.site.network import METADATA_ADDRESS
from system.site_hypervisor.roots import eventually

LIBRARY_SIGNALS = 1 << 31 | 1 << 32

pytestmark = pytest.mark.anyio


async def test_mounts_are_the_named_ones_and_none_of_the_host(spec, output, tmp_path):
    (tmp_path / "software").mkdir()
    machine = spec(
        script="cat /proc/self/mountinfo", repositories={"sft.cernvm.test": tmp_path / "software"}
    )

    mounts = {line.split()[4]: line for line in (await output(machine)).splitlines()}

    shown = {
        place for place in mounts if not place.startswith("/proc/") and place != "/sys/firmware"
    }
    assert shown == {
        "/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run", "/cvmfs/sft.cernvm.test",
        *(f"/dev/{name}" for name in _bound_devices(mounts)),
    }  # fmt: skip
    host = str(tmp_path.parent.parent)
    assert not [
        line for place, line in mounts.items() if host in line and not place.startswith("/cvmfs/")
    ]


def _bound_devices(mounts):
    """In a user namespace the kernel lets nobody make nodes: then they are the host's, one by one."""
    names = ("null", "zero", "full", "random", "urandom", "tty")
    return [name for name in names if f"/dev/{name}" in mounts]


async def test_files_are_those_of_its_tree(spec, output):
    listing = (await output(spec(script="ls -A / /etc /cvmfs /home"))).split()

    assert "os" in listing
    assert not {"passwd", "work", "boot"} & set(listing)


async def test_processes_are_its_own_and_init_is_first(spec, output):
    script = 'echo $$ $PPID; for d in /proc/[0-9]*; do echo "${d##*/}"; done; id -u'

    assert (await output(spec(script=script))).split() == ["1", "0", "1", "0"]


async def test_the_host_name_is_its_own(spec, output):
    before = socket.gethostname()

    said = await output(
        spec(hostname="worker7.cernvm.test", script="cat /proc/sys/kernel/hostname")
    )

    assert said.strip() == "worker7.cernvm.test"
    assert socket.gethostname() == before


LOOK_AROUND = """
for f in /proc/self/fd/*; do readlink $f; done
while read -r -d '' v; do echo $v; done < /proc/1/environ
"""


async def test_nothing_is_inherited(spec, output, monkeypatch):
    monkeypatch.setenv("CVM_SECRET", "of the host")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    leaked = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        said = (await output(spec(script=LOOK_AROUND))).splitlines()
    finally:
        os.close(leaked)

    assert said[0] == "/dev/null"
    assert said[1] == said[2]
    assert said[1].startswith("pipe:")
    assert len([line for line in said if line.startswith(("/", "pipe:", "socket:"))]) == 3
    variables = {line.partition("=")[0] for line in said if "=" in line}
    assert variables == {"PATH", "HOME", "LANG", "TERM", "container"}


async def test_signals_are_as_at_boot(spec, output):
    status = await output(spec(init=("/usr/bin/cat", "/proc/self/status")))

    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    # the C library keeps 32 and 33 to itself: who ignores them hands that down, and nobody can undo it
    assert int(masks["SigBlk"], 16) & ~LIBRARY_SIGNALS == 0
    assert int(masks["SigIgn"], 16) & ~LIBRARY_SIGNALS == 0


async def test_rights_are_bounded_for_all_it_ever_starts(spec, output):
    script = "while read -r k v; do case $k in Cap*) echo $k $v;; esac; done < /proc/self/status"

    said = dict(line.split(": ") for line in (await output(spec(script=script))).splitlines())

    kept = f"{sum(1 << number for number in KEPT):016x}"
    assert said == {
        "CapInh": "0" * 16,
        "CapPrm": kept,
        "CapEff": kept,
        "CapBnd": kept,
        "CapAmb": "0" * 16,
    }


@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t tmpfs none /tmp",
        "mknod /tmp/disk b 254 0",
        "echo x > /proc/sys/kernel/hostname",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "echo x > /sys/kernel/mm/ksm/run",
        "touch /cvmfs/sft.cernvm.test/file",
        "echo > /dev/tcp/192.0.2.1/80",
        "cat /proc/1/root/etc/passwd",
    ],
)
async def test_what_would_reach_the_host_is_refused(spec, output, tmp_path, attempt):
    (tmp_path / "software").mkdir()
    machine = spec(
        script=f"({attempt}) || echo refused",
        repositories={"sft.cernvm.test": tmp_path / "software"},
    )

    assert (await output(machine)).endswith("refused\n")


async def test_devices_work_and_are_the_usual_ones(spec, output):
    script = """
    echo x > /dev/null && [ $(stat -c %a /dev/null) = 666 ] && echo null
    read -rn1 < /dev/urandom && echo random
    (echo x > /dev/full) 2>/dev/null || echo full
    echo to the console > /dev/console
    stat -c %a /dev/shm /tmp; touch /dev/shm/x && echo shm
    ls -x -w 200 /dev
    """

    said = (await output(spec(script=script))).split("\n")

    assert said[:6] == ["null", "random", "full", "to the console", "1777", "1777"]
    assert said[6] == "shm"
    assert said[7].split() == sorted(
        [
            "console",
            "fd",
            "full",
            "null",
            "ptmx",
            "pts",
            "random",
            "shm",
            "stderr",
            "stdin",
            "stdout",
            "tty",
            "urandom",
            "zero",
        ]
    )


async def test_a_device_in_the_tree_is_none(spec, output, tiny_root, tmp_path):
    """A signed tree may hold device nodes; they must not open the host's."""
    if os.readlink("/proc/self/ns/user") and not _can_make_nodes(tmp_path):
        pytest.skip("nodes cannot be made in a user namespace")
    os.mknod(tiny_root / "disk", 0o600 | 0o020000, os.makedev(1, 5))
    try:
        said = await output(spec(script="cat /disk || echo refused"))
    finally:
        (tiny_root / "disk").unlink()

    assert "refused" in said


def _can_make_nodes(folder):
    try:
        os.mknod(folder / "probe", 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        return False
    return True


async def test_the_layer_outlives_a_stop_and_not_a_discard(spec, running):
    async def run(hypervisor, script):
        await hypervisor.start(spec(script=script))

        async def has_ended():
            return not (await hypervisor.state("i-00000001")).is_running

        await eventually(has_ended)
        return await hypervisor.console("i-00000001")

    async with running() as hypervisor:
        await run(hypervisor, "echo mine > /etc/os; touch /run/gone; mkdir -p /a/b")
        assert (await run(hypervisor, "cat /etc/os; ls /run /a")).endswith(
            b"mine\n/a:\nb\n\n/run:\n"
        )
        await hypervisor.discard("i-00000001")
        assert await run(hypervisor, "cat /etc/os") == b"tiny\n"


async def test_a_link_in_the_tree_does_not_lead_to_the_host(spec, running, tiny_root, tmp_path):
    hostile = tmp_path / "hostile"
    (hostile / "usr").mkdir(parents=True)
    (hostile / "tmp").symlink_to(tmp_path)
    mode = tmp_path.stat().st_mode

    async with running() as hypervisor:
        with pytest.raises(InvalidInputError, match="/tmp: Not a directory"):
            await hypervisor.start(spec(root=hostile))

    assert tmp_path.stat().st_mode == mode


async def test_instances_reach_the_site_and_each_other_and_nothing_else(spec, running, network):
    listener = network.listen(METADATA_ADDRESS, 80)
    listener.setblocking(True)
    listener.settimeout(5)
    talk = """
    exec 3<>/dev/tcp/169.254.169.254/80; read -r line <&3; echo "got $line"
    (echo > /dev/tcp/10.77.0.1/22) 2>/dev/null || echo closed
    (echo > /dev/tcp/192.0.2.7/80) 2>&1 | while read -r line; do echo "${line##*: }"; done
    trap 'exit 0' TERM; sleep 60 & wait
    """

    def serve():
        connection, (source, _) = listener.accept()
        connection.sendall(source.encode() + b"\n")
        connection.close()

    async with running(spec(4, talk)) as hypervisor:
        await anyio.to_thread.run_sync(serve)

        async def has_said():
            return b"unreachable" in await hypervisor.console("i-00000004")

        await eventually(has_said)
        said = (await hypervisor.console("i-00000004")).decode().splitlines()
    listener.close()

    assert said[:3] == ["got 10.77.0.5", "closed", "Network is unreachable"]


async def test_an_instance_keeps_its_address_when_it_starts_again_at_once(spec, running, network):
    listener = network.listen(IPv4Address("10.77.0.1"), 8000)
    listener.settimeout(5)
    machine = spec(script="echo hello > /dev/tcp/10.77.0.1/8000; sleep 60")

    async with running() as hypervisor:
        for _ in range(5):
            await hypervisor.start(machine)
            connection, (source, _) = await anyio.to_thread.run_sync(listener.accept)
            connection.close()
            await hypervisor.stop(machine.instance_id, grace_s=0)
            assert source == "10.77.0.2"
    listener.close()


async def test_an_init_that_ignores_the_request_is_ended_after_the_grace(spec, running):
    deaf = spec(script="trap '' TERM; echo deaf; while :; do sleep 0.1; done")
    async with running(deaf) as hypervisor:

        async def is_deaf():
            return await hypervisor.console(deaf.instance_id) == b"deaf\n"

        await eventually(is_deaf)
        with anyio.fail_after(3):
            await hypervisor.stop(deaf.instance_id, grace_s=0.3)

        assert not (await hypervisor.state(deaf.instance_id)).is_running


async def test_ten_instances_start_side_by_side(spec, running):
    async with running() as hypervisor:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for number in range(1, 11):
                    group.start_soon(hypervisor.start, spec(number))

        assert all([(await hypervisor.state(f"i-{n:08x}")).is_running for n in range(1, 11)])


async def test_a_second_site_does_not_share_the_folder(running, home, network):
    async with running():
        with pytest.raises(ConflictError):
            ContainerHypervisor(home.site / "instances", network)


async def test_a_tree_of_any_depth_is_deleted(spec, running, home):
    async with running() as hypervisor:
        await hypervisor.start(spec(script="exit"))
        await hypervisor.stop("i-00000001", grace_s=5)
        _dig(home.site / "instances/i-00000001/upper", levels=3000)

        await hypervisor.discard("i-00000001")

    assert [path.name for path in (home.site / "instances").iterdir()] == [".lock"]


def _dig(folder, levels):
    here = os.open(".", os.O_RDONLY)
    os.chdir(folder)
    for _ in range(levels):
        os.mkdir("deeper")
        os.chdir("deeper")
    os.fchdir(here)
    os.close(here)


async def test_a_full_disk_is_named(spec, running, home):
    place = home.site / "instances"
    place.mkdir(parents=True)
    await anyio.run_process(["mount", "-t", "tmpfs", "-o", "nr_inodes=5", "none", place])
    try:
        async with running() as hypervisor:
            for _ in range(2):
                with pytest.raises(SpaceError):
                    await hypervisor.start(spec())
    finally:
        await anyio.run_process(["umount", place])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"root": "gone"}, UnavailableError, "mount the root overlay: .*No such file"),
        ({"repositories": "gone"}, UnavailableError, "bind the repositories: .*No such file"),
        ({"init": ("/etc/os",)}, NotFoundError, "no program '/etc/os'"),
        ({"init": ("/no/init",)}, NotFoundError, "no program '/no/init'"),
    ],
    ids=["root", "repository", "no executable", "no file"],
)
async def test_a_step_that_fails_is_named_and_leaves_nothing(
    spec, running, tmp_path, change, error, words
):
    changes = {
        "root": {"root": tmp_path / "gone"},
        "repositories": {"repositories": {"sft.cernvm.test": tmp_path / "gone"}},
    }
    (key,) = change
    async with running() as hypervisor:
        with pytest.raises(error, match=words):
            await hypervisor.start(spec(**changes.get(key, change)))

        assert not (await hypervisor.state("i-00000001")).is_running
        await hypervisor.start(spec())
        await hypervisor.stop("i-00000001", grace_s=5)
