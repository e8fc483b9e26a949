"""Every part of a running demo, killed: the demo mends itself or says what is wrong, and the next one ends well."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cernvm.core.process import read_record
from cernvm.fs.mount.record import recorded_mounts
from system.box.demos import assert_nothing_runs, start, wait_for

STORY = ("--jobs", "3", "--events", "200", "--instances", "1")
APPEARS_S, ENDS_S = 60, 150

pytestmark = [pytest.mark.timeout(3000), pytest.mark.usefixtures("need_fuse")]


@dataclass(frozen=True)
class Victim:
    """Who is killed: `find` gives its process id once it is there; `within_s` is how long it may live on."""

    find: Callable[..., int | None]
    within_s: float


def service(name):
    def find(home):
        record = read_record(home.run / f"{name}.json")
        return record.pid if record and record.is_alive else None

    return find


def mount_of(repository, *, below="site"):
    """The mount process of a repository, of the site or (below `run`) of the last step."""

    def find(home):
        for mount in recorded_mounts(home.run):
            if mount.repository == repository and mount.point.is_relative_to(home.path / below):
                return mount.process.pid if mount.process.is_alive else None
        return None

    return find


def prosody(home):
    bus = service("bus")(home)
    return next(iter(children(bus)), None) if bus else None


def init_of_an_instance(home):
    """A descendant of the site that is process 1 of a namespace of its own."""
    site = service("site")(home)
    return next((pid for pid in descendants(site) if is_process_one(pid)), None) if site else None


def pilot(home):
    """Process 1's child that has come so far as to hold a job."""
    return next((agent for agent, _, _ in working(home)), None)


def holder(home):
    return next((holder for _, holder, _ in working(home)), None)


def payload(home):
    return next((job for _, _, job in working(home)), None)


def working(home):
    """Pilot, holder and job: the chain below an instance's process 1 while a job runs."""
    init = init_of_an_instance(home)
    for agent in children(init) if init else ():
        for keeper in children(agent):
            for job in children(keeper):
                yield agent, keeper, job


VICTIMS = {
    "the mount of the operating system": Victim(mount_of("os.cernvm.test"), 6),
    "the mount of the software": Victim(mount_of("sft.cernvm.test"), 6),
    "an instance's process 1": Victim(init_of_an_instance, 5),
    "a pilot": Victim(pilot, 2),
    "a job's holder": Victim(holder, 1),
    "a job": Victim(payload, 1),
    "the job agent": Victim(service("agent-jobs"), 8),
    "prosody": Victim(prosody, 8),
    "the bus": Victim(service("bus"), 8),
    "the storage": Victim(service("storage"), 8),
    "the repository server": Victim(service("repo"), 8),
    "the site": Victim(service("site"), 7),
    "the mount for the report": Victim(mount_of("sft.cernvm.test", below="run"), 1),
}


# what `make test` has time for: what an instance stands on, what runs in it, what started it
ALWAYS = {"the mount of the software", "a pilot", "the site"}


@pytest.mark.soak
@pytest.mark.parametrize("name", VICTIMS)
def test_a_demo_outlives_any_of_its_parts(told, count, seeded, name):
    if name not in ALWAYS and not os.environ.get("CVM_SOAK"):
        pytest.skip("20 s; in `make soak`")
    for _ in range(count(5)):
        strike(told.home, VICTIMS[name], seeded)


def strike(home, victim, random):
    """Kill the victim somewhere in its life within one demo, which still has all its jobs done."""
    child = start(home, *STORY)
    try:
        pid = kill_soon(home, child, victim, random.uniform(0, victim.within_s))
        began = time.monotonic()
        output, said = child.communicate(timeout=ENDS_S)
    finally:
        child.kill()
        child.communicate()
    took_s = time.monotonic() - began
    print(f"killed {pid}; the demo ended {took_s:.1f} s later with {child.returncode}")
    assert "Traceback" not in said
    assert child.returncode == 0, said
    assert "3 of 3 jobs done, 600 events" in output
    assert_nothing_runs(home)


def kill_soon(home, child, victim, after_s):
    """Kill the victim `after_s` after it is first seen; one that was replaced meanwhile is found again."""

    def seen():
        assert child.poll() is None, child.communicate()
        return victim.find(home)

    wait_for(seen, APPEARS_S)
    time.sleep(after_s)
    pid = victim.find(home)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    return pid


def children(pid):
    try:
        return [
            int(child)
            for thread in Path(f"/proc/{pid}/task").iterdir()
            for child in (thread / "children").read_text().split()
        ]
    except OSError:
        return []


def descendants(pid):
    for child in children(pid):
        yield child
        yield from descendants(child)


def is_process_one(pid):
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
    return len(numbers) > 1 and numbers[-1] == "1"
