"""The whole job system as real processes: bus, storage, job agent and pilots, each of which tests may kill."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from cernvm.cli.job import open_queue
from cernvm.core.home import Home
from conftest import CVM, missing

DEADLINE_S = 30


class Site:
    def __init__(self, home, tmp_path):
        self.home = home
        self.tmp_path = tmp_path
        self.ports = {"bus": _free_port(), "storage": _free_port()}
        self.running = {}
        self.env = {**os.environ, "CVM_HOME": str(home.path)}

    def start(self, name, *arguments, ready):
        log = (self.tmp_path / f"{name}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [CVM, "-v", *arguments], stdout=subprocess.PIPE, stderr=log, env=self.env
            )
        self.running[name] = process
        line = process.stdout.readline().decode()
        assert line.startswith(ready), f"{name}: {line!r} {self.log(name)}"
        return process

    def start_bus(self):
        self.start("bus", "bus", "serve", "--port", str(self.ports["bus"]), ready="listening on")

    def start_storage(self):
        port = str(self.ports["storage"])
        self.start("storage", "storage", "serve", "--port", port, ready="listening on http://")

    def start_jobs(self):
        self.start("jobs", "agent", "jobs", "--lease", "4", ready="connected to")

    def start_pilot(self, name):
        config = self.tmp_path / "pilot.toml"
        if not config.exists():
            self.cvm("bus", "account", "pilot")
            password = (self.home.bus / "accounts/pilot.password").read_text()
            config.write_text(
                f'server = "127.0.0.1:{self.ports["bus"]}"\njid = "pilot@grid.test"\n'
                f'password = "{password}"\nmanager = "jobs@grid.test"\n'
                f'work_folder = "{self.tmp_path / "work"}"\n'
            )
        self.start(name, "agent", "pilot", "--config", str(config), ready="connected to")

    def start_all(self, pilots=2):
        self.start_bus()
        self.start_storage()
        self.start_jobs()
        for number in range(1, pilots + 1):
            self.start_pilot(f"pilot{number}")

    def kill(self, name):
        process = self.running.pop(name)
        process.kill()
        process.wait()
        process.stdout.close()

    def stop(self, name):
        """SIGTERM; returns how long the end took."""
        began = time.monotonic()
        process = self.running.pop(name)
        process.terminate()
        process.wait(10)
        process.stdout.close()
        return time.monotonic() - began

    def log(self, name):
        return (self.tmp_path / f"{name}.log").read_text()

    def cvm(self, *arguments, check=True):
        finished = subprocess.run(
            [CVM, *arguments], capture_output=True, text=True, env=self.env, timeout=60, check=False
        )
        assert not check or finished.returncode == 0, finished.stderr
        return finished.stdout if check else finished

    def submit(self, script, *, count=1, outputs=("{id}_0.txt",)):
        named = [word for output in outputs for word in ("--output", output)]
        command = ["--", "sh", "-c", script]
        return self.cvm("job", "submit", "--count", str(count), *named, *command).split()

    def jobs(self):
        return json.loads(self.cvm("job", "ls", "--json"))

    def has(self, condition, *, count=1):
        """Whether so many jobs are so; looks at the queue itself, since to start a command takes its time."""
        with open_queue(self.home) as queue:
            return len([job for job in queue.jobs() if condition(job)]) >= count

    def wait_for(self, what, deadline_s=DEADLINE_S):
        """The first true value of `what()`."""
        end = time.monotonic() + deadline_s
        while not (found := what()):
            logs = "\n".join(
                f"== {path}\n{path.read_text()[-3000:]}" for path in self.tmp_path.glob("*.log")
            )
            assert time.monotonic() < end, f"{self.jobs()}\n{logs}"
            time.sleep(0.1)
        return found

    def wait_for_end(self, job_id):
        """The job once it has ended."""
        return self.wait_for(
            lambda: (
                self.has(lambda job: job.id == job_id and job.ended_at)
                and next(job for job in self.jobs() if job["id"] == job_id)
            )
        )

    def wait_for_state(self, state, *, count=1):
        return self.wait_for(
            lambda: (
                self.has(lambda job: job.state.value == state, count=count)
                and len(found := [job for job in self.jobs() if job["state"] == state]) >= count
                and found
            )
        )

    def close(self):
        for name in list(self.running):
            self.stop(name)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def site(home, tmp_path):
    """Nothing runs yet; what a test starts it may kill."""
    if shutil.which("prosody") is None:
        missing("prosody is not installed")
    live = Site(home, tmp_path)
    yield live
    live.close()


@pytest.fixture(scope="module")
def calm_site(tmp_path_factory):
    """Everything runs, with one pilot, and nobody is killed: shared by the tests of a module."""
    if shutil.which("prosody") is None:
        missing("prosody is not installed")
    folder = tmp_path_factory.mktemp("calm")
    live = Site(Home(folder / "home"), folder)
    live.env["SECRET_OF_THE_PILOT"] = "x"
    live.start_all(pilots=1)
    yield live
    live.close()


@pytest.fixture(scope="session")
def processes():
    """The ids of the live processes whose command line contains a text."""
    return _processes


def _processes(text):
    """The ids of the live processes whose command line contains `text`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes().replace(b"\0", b" ")[:400]:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
