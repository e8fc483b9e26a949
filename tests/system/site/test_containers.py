"""The whole site, nothing left out: instances over a published repository, told who they are at 169.254.169.254."""

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from cernvm.core.process import read_record
from system.published import published
from system.site.served import instances, served_site, start_site, states, stop, wait_for
from system.site_hypervisor.roots import make_tiny_root

OS = "os.cernvm.test"
INIT = r"""#!/usr/bin/bash
ask() {
    exec 3<>"/dev/tcp/169.254.169.254/80"
    printf 'GET /latest/%s HTTP/1.0\r\nHost: x\r\n\r\n' "$1" >&3
    while read -r line && [ "${line%$'\r'}" ]; do :; done <&3
    echo "$1: $(cat <&3)"
}
ask meta-data/instance-id; ask meta-data/local-ipv4; ask user-data
exec 4<>"/dev/tcp/10.77.0.1/7000"; echo "door: $(cat <&4)"
echo "files: $(ls /root)"; touch /root/mine
echo ready
[ -e /root/leave ] && exit 0
trap 'echo ending; exit 0' TERM; sleep 60 & wait
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """An operating system whose init tells what it was told."""
    folder = make_tiny_root(tmp_path_factory.mktemp("os"))
    init = folder / "usr/sbin/cernvm-init"
    init.parent.mkdir(parents=True, exist_ok=True)
    init.write_text(INIT)
    init.chmod(0o755)
    return folder


@pytest.fixture
def repository(need_fuse, cvm, home, tree):
    """The url of its repository."""
    if os.geteuid() != 0:
        pytest.skip("as an ordinary user this runs inside a namespace, which the demo's tests make")
    with published(cvm, home, OS, tree) as url:
        yield f"{url}/cvmfs/{OS}"


@pytest.fixture
def door():
    """A service of the host that says `hello` to whoever connects; its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def greet():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"hello")

    thread = threading.Thread(target=greet)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.fixture
def config(repository, home, door):
    """The site's settings."""
    return f"""
[[images]]
name = "tiny"
repository = "{OS}"
[[repositories]]
name = "{OS}"
url = "{repository}"
public_key = "{home.keys / OS}.pub"
[[forwards]]
port = 7000
target = "{door}"
"""


def run(ec2, **options):
    image = ec2.describe_images()["Images"][0]["ImageId"]
    answer = ec2.run_instances(**{"ImageId": image, "MinCount": 1, "MaxCount": 1, **options})
    return [each["InstanceId"] for each in answer["Instances"]]


def console(ec2, name):
    return ec2.get_console_output(InstanceId=name).get("Output", "")


def ready(ec2, name, times=1):
    wait_for(lambda: console(ec2, name).count("ready") == times, seconds=30)
    return console(ec2, name).splitlines()


def test_an_instance_learns_who_it_is_and_reaches_the_open_door(home, config):
    with served_site(home, config) as site:
        ec2 = site.client()
        one, two = run(ec2, MinCount=2, MaxCount=2, UserData="[cernvm]")
        said = {name: ready(ec2, name) for name in (one, two)}
        addresses = {each["InstanceId"]: each["PrivateIpAddress"] for each in instances(ec2)}
        ec2.terminate_instances(InstanceIds=[one, two])
        wait_for(lambda: set(states(ec2).values()) == {"terminated"})
        last = console(ec2, one)
        ec2.close()

    for name in (one, two):
        assert said[name] == [
            f"meta-data/instance-id: {name}",
            f"meta-data/local-ipv4: {addresses[name]}",
            "user-data: [cernvm]",
            "door: hello",
            "files: ",
            "ready",
        ]
    assert last.endswith("ending\n")
    assert not list((home.site / "instances").glob("i-*"))


def test_after_sigkill_nothing_is_left_and_the_next_site_brings_instances_back(home, config):
    site = start_site(home, config)
    ec2 = site.client()
    (name,) = run(ec2)
    ready(ec2, name)
    before = instances(ec2)[0]["PrivateIpAddress"]
    ec2.close()
    site.kill()
    stop(site.process)
    wait_for(lambda: not _processes_of(home))

    with served_site(home, config) as again:
        ec2 = again.client()
        wait_for(lambda: states(ec2)[name] == "running", seconds=30)
        said = ready(ec2, name, times=2)
        after = instances(ec2)[0]["PrivateIpAddress"]
        ec2.close()
    assert after == before
    assert said[-2:] == ["files: mine", "ready"]
    assert not _processes_of(home)


def test_an_instance_survives_the_death_of_a_mount(home, config):
    with served_site(home, config) as site:
        ec2 = site.client()
        (name,) = run(ec2)
        ready(ec2, name)
        (mount,) = _processes_of(home, "mount")
        os.kill(mount, signal.SIGKILL)
        said = ready(ec2, name, times=2)
        wait_for(lambda: states(ec2)[name] == "running", seconds=30)
        ec2.close()

    assert said[-2:] == ["files: mine", "ready"]


def test_a_repository_that_cannot_be_mounted_is_the_reason(home, config, repository):
    with served_site(home, config.replace(repository, "http://127.0.0.1:9/cvmfs/x")) as site:
        ec2 = site.client()
        (name,) = run(ec2)
        wait_for(lambda: states(ec2)[name] == "terminated", seconds=60)
        (gone,) = instances(ec2)
        ec2.close()

    assert gone["StateReason"]["Code"] == "Server.InternalError"
    assert OS in gone["StateReason"]["Message"]


def test_the_site_ends_within_five_seconds_with_instances_running(home, config):
    with served_site(home, config) as site:
        ec2 = site.client()
        for name in run(ec2, MinCount=3, MaxCount=3):
            ready(ec2, name)
        ec2.close()
        site.process.terminate()
        site.process.wait(5)

    assert site.process.returncode == 0
    assert read_record(home.run / "site.json") is None
    assert not _processes_of(home)


def _processes_of(home, word=""):
    """Ids of processes of this home's site: its mounts and launchers name the home's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(home.site) in part for part in command) and (not word or word in command):
            found.append(int(process.name))
    return found
