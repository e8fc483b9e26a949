"""The main job, end to end: real releases, real instances, real events; and nothing is left, however it ends."""

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import uproot

from cernvm.core.home import Home
from conftest import CVM

SMALL = ("--jobs", "2", "--events", "50", "--instances", "1")
FIRST_RUN_S, SECOND_RUN_S = 600, 90
INTERRUPTED = 130

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("need_fuse")]


@dataclass(frozen=True)
class Told:
    home: Home
    report: Path
    said: str

    @property
    def document(self):
        return json.loads((self.report / "report.json").read_bytes())


@pytest.fixture(scope="session")
def told(tmp_path_factory):
    """A data folder in which the main job ran once, in full, from nothing."""
    if os.geteuid() != 0:
        pytest.skip("the whole story as root needs root; test_ordinary_user has the other")
    folder = tmp_path_factory.mktemp("told")
    home = Home(folder / "home")
    # its own report: later tests tell smaller stories in the same data folder, in any order
    done = demo(home, "--report", folder / "report", timeout=FIRST_RUN_S)
    assert done.returncode == 0, done.stderr
    yield Told(home, folder / "report", done.stdout)
    assert demo(home, "--clean").returncode == 0
    assert not home.path.exists()


@pytest.fixture
def with_releases(told, tmp_path):
    """An own data folder that has the releases already, as hard links."""
    home = Home(tmp_path / "own")
    copy_releases(told.home, home)
    yield home
    demo(home, "--clean")
    shutil.rmtree(home.path, ignore_errors=True)


def test_the_first_run_ends_with_a_report_of_eight_jobs(told):
    document = told.document
    assert (document["jobs_total"], document["jobs_done"], document["events_total"]) == (8, 8, 8000)
    assert len(document["outputs"]) == 8
    assert "8 of 8 jobs done, 8,000 events" in told.said
    assert document["steps"][0]["name"] == "Operating system release"
    assert all(step["seconds"] >= 0 for step in document["steps"])
    assert_nothing_runs(told.home)


def test_every_output_is_whole_and_opens_with_its_events(told):
    document = told.document
    digests = set()
    for output in document["outputs"]:
        path = Path(output["path"])
        content = path.read_bytes()
        assert path.is_absolute()
        assert path.name == f"{output['job']}_0.evgen.pool.root"
        assert len(content) == output["size_bytes"]
        assert hashlib.sha256(content).hexdigest() == output["sha256"]
        with uproot.open(path) as file:
            assert file["events"].num_entries == output["events"] == 1000
        digests.add(output["sha256"])
    assert len(digests) == 8


def test_the_report_has_its_picture_and_page(told):
    document = told.document
    (plot,) = document["plots"]
    assert Path(plot).is_absolute()
    assert Path(plot).read_bytes().startswith(b"\x89PNG")
    page = (told.report / "report.html").read_text()
    assert all(output["job"] in page for output in document["outputs"])


def test_the_jobs_ran_in_the_instances(told):
    document = told.document
    agents = {job["agent"] for job in document["jobs"]}
    assert len(agents) == 2
    assert all(agent.startswith("i-") for agent in agents)


def test_a_second_run_is_quick_and_needs_no_network(told, tmp_path):
    home = told.home
    began = time.monotonic()
    script = f"ip link set lo up; exec {CVM} demo --report {tmp_path}/report --json"
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "CVM_HOME": str(home.path)},
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < SECOND_RUN_S
    document = json.loads(done.stdout)
    assert document["events_total"] == 8000
    assert document["plots"] == [f"{tmp_path}/report/events.png"]
    assert_nothing_runs(home)


@pytest.mark.soak
def test_killed_at_any_moment_nothing_stays_and_the_next_run_ends_well(told, count, seeded):
    home = told.home
    for _ in range(count(20)):
        child = start(home, *SMALL)
        time.sleep(seeded.uniform(0.2, 12))
        child.kill()
        child.communicate(timeout=10)
        assert_nothing_runs(home)
    done = demo(home, *SMALL, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["jobs_done"] == 2


def test_interrupted_it_ends_in_order(told):
    home = told.home
    child = start(home, *SMALL)
    wait_for((home.run / "site.json").exists)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=40)
    assert child.returncode == INTERRUPTED, said
    assert said.strip().endswith("cvm: stopped")
    assert_nothing_runs(home, within_s=0.5)
    assert not list(home.run.glob("*.json"))


def test_clean_ends_a_running_demo_and_leaves_no_trace(with_releases):
    home = with_releases
    child = start(home, *SMALL, "--keep")
    wait_for((home.demo / "report.json").exists, 60)
    rows = json.loads(cvm(home, "-H", "ls", "--json").stdout)
    assert [row["state"] for row in rows] == ["running"]
    done = demo(home, "--clean")
    assert done.returncode == 0, done.stderr
    assert child.communicate(timeout=10) is not None
    assert not home.path.exists()
    assert_nothing_runs(home)


def test_clean_refuses_while_something_of_others_is_there(with_releases):
    home = with_releases
    assert demo(home, *SMALL).returncode == 0
    cvm(home, "repo", "create", "mine.cernvm.test")
    done = demo(home, "--clean")
    assert done.returncode == 40
    assert "the repository mine.cernvm.test" in done.stderr
    assert (home.demo / "report.json").exists()
    cvm(home, "repo", "remove", "mine.cernvm.test", "--yes")
    assert demo(home, "--clean").returncode == 0
    assert not home.path.exists()


def test_an_ordinary_user_runs_all_of_it_in_a_namespace(told, ordinary_user):
    home = Home(ordinary_user.home / "cvm")
    copy_releases(told.home, home, owner=lambda number: 300_000 + number - 1 if number else 4242)
    done = ordinary_user.cvm("demo", *SMALL, "--json", timeout=200)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["jobs_done"], document["events_total"]) == (2, 100)
    assert Path(document["outputs"][0]["path"]).stat().st_uid == 4242
    assert_nothing_runs(home)
    done = ordinary_user.cvm("demo", "--clean")
    assert done.returncode == 0, done.stderr
    assert not list(ordinary_user.home.iterdir())


@pytest.mark.soak
def test_an_ordinary_user_builds_the_releases_too(ordinary_user):
    if not os.environ.get("CVM_SOAK"):
        pytest.skip("a minute and a half; in `make soak`")
    done = ordinary_user.cvm("demo", *SMALL, timeout=600)
    assert done.returncode == 0, done.stderr
    assert ordinary_user.cvm("demo", "--clean").returncode == 0
    assert not list(ordinary_user.home.iterdir())


def start(home, *words):
    return subprocess.Popen(
        [CVM, "demo", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CVM_HOME": str(home.path)},
    )


def demo(home, *words, timeout=120):
    return cvm(home, "demo", *words, timeout=timeout)


def cvm(home, *words, timeout=60):
    return subprocess.run(
        [CVM, *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "CVM_HOME": str(home.path)},
    )


def copy_releases(from_home, home, *, owner=None):
    """Trees and stamps, hard linked; with `owner`, copied, each account replaced."""
    for source in (from_home.path / "releases").rglob("*"):
        target = home.path / source.relative_to(from_home.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.name.endswith(".published"):
            continue
        status = source.lstat()
        if stat.S_ISDIR(status.st_mode):
            target.mkdir(exist_ok=True)
            target.chmod(stat.S_IMODE(status.st_mode))
        elif owner is None:
            os.link(source, target, follow_symlinks=False)
        else:
            shutil.copy2(source, target, follow_symlinks=False)
        if owner is not None:
            os.chown(target, owner(status.st_uid), owner(status.st_gid), follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                target.chmod(stat.S_IMODE(status.st_mode))
    (home.path / "demo.mark").write_text('{"made_folder": true}')
    if owner is not None:
        for path in (home.path, home.path / "releases", home.path / "demo.mark"):
            os.chown(path, owner(0), owner(0))


def assert_nothing_runs(home, within_s=10.0):
    """No process of the demo, and none that still sees a mount below the data folder."""
    wait_for(lambda: not processes_of(home), within_s, tell=lambda: processes_of(home))


def processes_of(home):
    wanted = str(home.path).encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if folder.name == str(os.getpid()):
            continue
        try:
            seen = (folder / "mountinfo").read_bytes() + (folder / "environ").read_bytes()
            if wanted in seen:
                found[folder.name] = (folder / "cmdline").read_bytes()[:200]
        except OSError:
            continue
    return found


def wait_for(condition, seconds=30, tell=lambda: ""):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, tell()
        time.sleep(0.05)
