"""The main job, end to end: real releases, real instances, real events; and nothing is left, however it ends."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import uproot

from cernvm.core.home import Home
from conftest import CVM
from system.box.demos import (
    SMALL,
    assert_nothing_runs,
    copy_releases,
    cvm,
    demo,
    start,
    wait_for,
)

SECOND_RUN_S = 90
INTERRUPTED = 130

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("need_fuse")]


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
    for _ in range(count(20, 20)):
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


def test_clean_ends_a_running_demo_and_leaves_no_trace(told):
    home = told.home  # which is gone then: this test is moved behind all others
    (home.demo / "report.json").unlink(missing_ok=True)
    child = start(home, *SMALL, "--keep")
    wait_for((home.demo / "report.json").exists, 120)
    rows = json.loads(cvm(home, "-H", "ls", "--json").stdout)
    assert [row["state"] for row in rows] == ["running"]
    assert json.loads((home.demo / "report.json").read_bytes())["jobs_done"] == 2  # as ever
    done = demo(home, "--clean")
    assert done.returncode == 0, done.stderr
    assert child.communicate(timeout=10) is not None
    assert not home.path.exists()
    assert_nothing_runs(home)


def test_clean_refuses_while_something_of_others_is_there(with_releases):
    home = with_releases
    cvm(home, "repo", "create", "mine.cernvm.test")
    before = set(home.path.rglob("*"))
    done = demo(home, "--clean")
    assert done.returncode == 40
    assert "the repository mine.cernvm.test" in done.stderr
    assert before <= set(home.path.rglob("*"))
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
