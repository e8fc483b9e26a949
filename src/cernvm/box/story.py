"""The main job as a story: its steps in order, what each does, and the command that does the same by hand.

Each step uses the words of `cvm` as a person would; `Story` carries what one step leaves for the next.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from cernvm.box.commands import Commands
from cernvm.box.namespace import in_user_namespace, isolate_network
from cernvm.box.publication import publish
from cernvm.box.release import operating_system, software
from cernvm.box.report import JobRow, Output
from cernvm.box.screen import Screen
from cernvm.box.sweep import REGION, TEMPLATE
from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError
from cernvm.core.home import Home, ensure_folder, write_atomically
from cernvm.pilot.job import Job, JobState
from cernvm.pilot.queue import DatabaseQueue
from cernvm.site.instance import Instance, State
from cernvm.site.state import open_state

OS, SOFTWARE = operating_system.REPOSITORY, software.REPOSITORY
IMAGE = "cernvm-box"
NAME = "demo"  # the group of the demo's instances and the name of its jobs, which tell them from others
ACCOUNT = "pilot"
DOMAIN = "grid.test"
JOB_MANAGER = f"jobs@{DOMAIN}"
GATEWAY = "10.77.0.1"  # of the site's network: where instances reach the two services below
BUS_PORT, STORAGE_PORT = 5222, 8080
STORAGE_URL = f"http://{GATEWAY}:{STORAGE_PORT}"
INSTANCE_DEADLINE_S = 90.0
JOB_DEADLINE_S = 180.0  # for whatever happens around the events
SLOWEST_EVENTS_PER_S = 10  # far slower than any machine; only a deadline is reckoned from it
POLL_S = 0.4
MOST_REPLACEMENTS = 3  # of instances that ended without being asked


@dataclass(frozen=True, slots=True)
class Options:
    """How large the demo is. Shape: `report` is the folder that gets the report, absolute."""

    report: Path
    jobs: int = 8
    events: int = 1000
    instances: int = 2


@dataclass(slots=True)
class Story:
    """What the steps have done so far."""

    home: Home
    options: Options
    commands: Commands
    screen: Screen
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    revisions: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    ami: str = f"ami-… (of {IMAGE})"
    instances: dict[str, str] = field(default_factory=dict)  # id to address
    lost: dict[str, str] = field(default_factory=dict)  # the same, of those that were replaced
    jobs: list[Job] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    plots: list[Path] = field(default_factory=list)

    @property
    def releases(self) -> Path:
        """Where the trees are built."""
        return self.home.path / "releases"

    @property
    def password_file(self) -> Path:
        """What the pilots prove themselves with on the bus."""
        return self.home.bus / "accounts" / f"{ACCOUNT}.password"


def publish_operating_system(story: Story) -> str:
    """Build the tree that instances boot from and publish it."""
    release = operating_system.build_operating_system(story.releases, story.screen.note)
    result, story.revisions[OS] = publish(story.commands, OS, release, story.screen.note)
    return result


def publish_software(story: Story) -> str:
    """Build the physics stack and publish it; the last step that needs the host's network."""
    release = software.build_software(story.releases, story.screen.note)
    result, story.revisions[SOFTWARE] = publish(
        story.commands, SOFTWARE, release, story.screen.note
    )
    if in_user_namespace():
        isolate_network()
    return result


def serve(story: Story) -> str:
    """Start what every computer centre has: repositories over HTTP, a bus, a storage, a job manager, a cloud."""
    _start(story, "repo", "repo", "serve", "--port", "0")
    _start(story, "bus", "bus", "serve", "--port", "0")
    _start(story, "storage", "storage", "serve", "--port", "0")
    _start(
        story,
        *("agent-jobs", "agent", "jobs"),
        *("--storage-url", STORAGE_URL),
        *("--storage-local-url", f"http://{story.addresses['storage']}"),
    )
    story.commands.run("bus", "account", ACCOUNT)
    _start(story, "site", "site", "serve", "--config", str(write_site_config(story)), "--port", "0")
    story.ami = next(row["ami"] for row in story.commands.json("ls", "-i") if row["name"] == IMAGE)
    forget_earlier_demos(story)
    return f"{len(story.commands.services)} services, on this machine's loopback only"


def _start(story: Story, service: str, *words: str) -> None:
    story.screen.note(f"starting cvm {' '.join(words[:2])}")
    story.addresses[service] = story.commands.start(service, *words)


def write_site_config(story: Story) -> Path:
    """What the demo's site offers: one image, two repositories, and doors to the bus and the storage."""
    lines = [
        f"name = {_toml(REGION)}",
        f"instances_max = {max(16, story.options.instances)}",
        f"[[images]]\nname = {_toml(IMAGE)}\nrepository = {_toml(OS)}",
    ]
    for name in (OS, SOFTWARE):
        url = f"http://{story.addresses['repo']}/cvmfs/{name}"
        key = str(story.home.keys / f"{name}.pub")
        lines.append(f"[[repositories]]\nname = {_toml(name)}")
        lines.append(f"url = {_toml(url)}\npublic_key = {_toml(key)}")
    for port, service in ((BUS_PORT, "bus"), (STORAGE_PORT, "storage")):
        lines.append(f"[[forwards]]\nport = {port}\ntarget = {_toml(story.addresses[service])}")
    path = site_config_path(story)
    write_atomically(path, "\n".join([*lines, ""]).encode())
    return path


def site_config_path(story: Story) -> Path:
    """Where the configuration of the demo's site is; `site.toml` is left to people."""
    return story.home.run / "demo-site.toml"


def forget_earlier_demos(story: Story) -> None:
    """End the instances and cancel the jobs of demos that were killed; those of others stay."""
    left = [row["id"] for row in story.commands.json("ls") if NAME in row["group"].split(",")]
    if left:
        story.screen.note(f"ending {len(left)} instances of an earlier demo")
        story.commands.json("terminate", *left, "--wait")
    jobs = [job.id for job in _queue_jobs(story) if job.name == NAME and not job.state.is_final]
    if jobs:
        story.commands.run("job", "cancel", *jobs)


def install_template(story: Story) -> str:
    """Put the user-data template where `cvm run` looks for it."""
    target = ensure_folder(story.home.templates) / TEMPLATE
    source = str(files("cernvm.box.release").joinpath(TEMPLATE))
    shutil.copyfile(source, target)
    return f"{target}"


def start_instances(story: Story) -> str:
    """Start contextualized instances and wait until they run."""
    began = time.monotonic()
    _run_instances(story, story.options.instances)
    deadline = Deadline.after(INSTANCE_DEADLINE_S)
    while True:
        rows = story.commands.json("ls", *story.instances)
        story.screen.rows(("rid", "id", "owner", "group", "address", "state", "type"), rows)
        if {row["state"] for row in rows} == {State.RUNNING.value}:
            break
        deadline.check("starting the instances")
        look_after(story)
        time.sleep(POLL_S)
    return f"{len(rows)} instances run after {time.monotonic() - began:.1f} s"


def _run_instances(story: Story, number: int) -> None:
    rows = story.commands.json("run", *run_words(story, number))
    story.instances |= {row["id"]: row["address"] for row in rows}


def look_after(story: Story) -> None:
    """Have every service that was killed back, and an instance for every one that ended.

    Errors: of a service that ended by itself; `CvmError` when instances keep ending.
    """
    story.commands.look_after_services()
    ended = [row for row in _site_instances(story) if not row.is_live]
    for instance in ended:
        if len(story.lost) >= MOST_REPLACEMENTS:
            raise CvmError(
                f"the instance {instance.instance_id} is {instance.state.value}:"
                f" {instance.reason.text if instance.reason else 'no reason is known'}",
                advice=f"read its console: cvm console {instance.instance_id}",
            )
        story.lost[instance.instance_id] = story.instances.pop(instance.instance_id)
        _run_instances(story, 1)


def run_words(story: Story, number: int) -> list[str]:
    """What follows `cvm run`; the password is named by its file, since arguments can be read by anyone."""
    return [
        story.ami,
        *("--template", f"{TEMPLATE.removesuffix('.tpl')}:{number}"),
        *("--group", NAME),
        f"BUS_SERVER={GATEWAY}:{BUS_PORT}",
        f"BUS_JID={ACCOUNT}@{DOMAIN}",
        f"BUS_PASSWORD=@{story.password_file}",
        f"JOB_MANAGER={JOB_MANAGER}",
        "PROXY=",
    ]


def run_jobs(story: Story) -> str:
    """Submit the jobs and follow them until each is done or has failed."""
    submitted = story.commands.json("job", "submit", *submit_words(story))
    ids = [row["id"] for row in submitted]
    options = story.options
    deadline = Deadline.after(JOB_DEADLINE_S + options.jobs * options.events / SLOWEST_EVENTS_PER_S)
    while True:
        story.jobs = _queue_jobs(story, ids)
        story.screen.rows(("job", "state", "instance", "attempt", "seconds"), _job_table(story))
        if all(job.state.is_final for job in story.jobs):
            break
        deadline.check("running the jobs")
        look_after(story)
        time.sleep(POLL_S)
    for job in story.jobs:
        if job.state is not JobState.DONE:
            raise CvmError(
                f"the job {job.id} has {job.state.value}: {job.reason}",
                advice=f"read what it said: cvm job show {job.id}",
            )
    return f"{len(story.jobs)} jobs done by {len({job.agent for job in story.jobs})} pilots"


def submit_words(story: Story) -> list[str]:
    """What follows `cvm job submit`."""
    output = "{id}_0.evgen.pool.root"
    evgen = f"/cvmfs/{SOFTWARE}/bin/evgen"
    return [
        *("--count", str(story.options.jobs), "--name", NAME, "--seed", "1"),
        *("--output", output, "--"),
        *(evgen, "--events", str(story.options.events), "--seed", "{seed}", "--output", output),
    ]


def _queue_jobs(story: Story, ids: Sequence[str] = ()) -> list[Job]:
    """Asked of the database itself, since a process for each look would cost more than the jobs."""
    queue = DatabaseQueue.in_folder(story.home.pilot)
    try:
        return queue.jobs(ids=ids)
    finally:
        queue.close()


def _site_instances(story: Story) -> list[Instance]:
    """The story's instances, asked of the database for the same reason."""
    state = open_state(story.home.site)
    try:
        return [each for each in state.instances() if each.instance_id in story.instances]
    finally:
        state.close()


def _job_table(story: Story) -> list[dict[str, object]]:
    now = datetime.now(UTC)
    return [
        {
            "job": job.id,
            "state": job.state.value,
            "instance": instance_of(job.agent, story.lost | story.instances),
            "attempt": job.attempt or "",
            "seconds": "" if (took := job.duration_s(now)) is None else f"{took:.1f}",
        }
        for job in story.jobs
    ]


def job_rows(story: Story) -> list[JobRow]:
    """The jobs as the report shows them, with times since the story began."""
    now = datetime.now(UTC)
    return [
        JobRow(
            job=job.id,
            name=f"job {number}",
            state=job.state.value,
            agent=instance_of(job.agent, story.lost | story.instances),
            attempts=job.attempt,
            started_s=((job.started_at or now) - story.began_at).total_seconds(),
            seconds=job.duration_s(now) or 0.0,
        )
        for number, job in enumerate(story.jobs, 1)
    ]


def instance_of(agent: str, addresses: Mapping[str, str]) -> str:
    """The instance that an agent runs in, by the host name in the agent's address.

    >>> instance_of("pilot@grid.test/ip-10-77-0-2-70e65d75", {"i-5314677a": "10.77.0.2"})
    'i-5314677a'
    """
    host = agent.partition("/")[2]
    for instance, address in addresses.items():
        if f"{host}-".startswith(f"ip-{address.replace('.', '-')}-"):
            return instance
    return host or agent


def _toml(text: str) -> str:
    return json.dumps(text)
