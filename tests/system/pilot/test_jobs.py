import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

WORK = "sleep {seconds}; echo {{seed}} > {{id}}_0.txt"


def quick(seconds=0.1):
    return WORK.format(seconds=seconds)


def assert_all_done_once(site, count):
    done = site.wait_for_state("done", count=count)
    stored = json.loads(site.cvm("storage", "ls", "--json"))

    assert len(done) == count == len(site.jobs())
    by_path = {item["path"]: item for item in stored}
    for seed, job in enumerate(done, 1):
        (output,) = job["outputs"]
        assert by_path[output["path"]]["sha256"] == output["sha256"]
        assert output["sha256"] == hashlib.sha256(f"{seed}\n".encode()).hexdigest()


def test_two_pilots_do_eight_jobs(site):
    site.start_all()

    site.submit(quick(), count=8)

    assert_all_done_once(site, 8)
    agents = json.loads(site.cvm("agent", "ls", "--json"))
    assert {agent["state"] for agent in agents} == {"idle"}
    assert {job["agent"] for job in site.jobs()} == {agent["agent"] for agent in agents}


def test_everything_ends_in_five_seconds_and_leaves_nothing(site):
    site.start_all()
    site.submit("sleep 600", outputs=())
    site.wait_for_state("running")

    for name in ("pilot1", "pilot2", "jobs", "storage", "bus"):
        assert site.stop(name) < 5, name

    assert list(site.home.run.iterdir()) == []
    assert list((site.tmp_path / "work").iterdir()) == []
    assert not _processes("sleep 600")
    (job,) = site.jobs()
    assert (job["state"], job["attempt"]) == ("waiting", 0)


def test_a_killed_pilots_job_is_done_by_the_other(site):
    site.start_all(pilots=1)
    site.submit("sleep 1.5; echo 1 > {id}_0.txt")
    site.wait_for_state("running")

    site.kill("pilot1")
    site.start_pilot("pilot2")

    assert_all_done_once(site, 1)
    assert site.jobs()[0]["attempt"] == 2
    assert len(list((site.tmp_path / "work").iterdir())) == 1


def test_a_killed_pilot_leaves_no_process(site):
    site.start_all(pilots=1)
    site.submit("sh -c 'setsid sleep 601 & sleep 602'", outputs=())
    site.wait_for(lambda: _processes("sleep 601") and _processes("sleep 602"))

    site.kill("pilot1")

    site.wait_for(lambda: not _processes("sleep 601") and not _processes("sleep 602"), 5)


@pytest.mark.parametrize("victim", ["bus", "jobs", "storage"])
def test_jobs_survive_the_death_of(site, victim):
    site.start_all()
    site.submit(quick(0.5), count=4)
    site.wait_for_state("running")

    site.kill(victim)
    time.sleep(0.5)
    {"bus": site.start_bus, "jobs": site.start_jobs, "storage": site.start_storage}[victim]()

    assert_all_done_once(site, 4)


def test_prosodys_own_death_is_mended_by_its_keeper(site):
    site.start_all(pilots=1)
    (prosody,) = _processes(f"prosody --config {site.home.bus}")

    os.kill(prosody, signal.SIGKILL)
    site.submit(quick())

    assert_all_done_once(site, 1)


@pytest.mark.soak
def test_no_order_of_deaths_loses_or_doubles_a_job(site, count, seeded):
    site.start_all()
    restart = {
        "bus": site.start_bus,
        "jobs": site.start_jobs,
        "storage": site.start_storage,
        "pilot1": lambda: site.start_pilot("pilot1"),
        "pilot2": lambda: site.start_pilot("pilot2"),
    }
    site.submit(quick(0.3), count=8)
    for _ in range(count(30)):
        time.sleep(seeded.random())
        victim = seeded.choice([*restart])
        site.kill(victim)
        if site.jobs() and any(job["state"] == "failed" for job in site.jobs()):
            site.cvm("job", "retry", "--all")
        restart[victim]()
    site.wait_for(lambda: all(job["state"] in ("done", "failed") for job in site.jobs()), 60)
    if any(job["state"] == "failed" for job in site.jobs()):
        # three pilots died under one job, which says so
        assert "attempt 3 of 3" in site.cvm("job", "ls")
        site.cvm("job", "retry", "--all")

    assert_all_done_once(site, 8)


def test_a_failed_command_is_reported_with_its_last_words(site):
    site.start_all(pilots=1)

    (job_id,) = site.submit("echo so far so good; echo oops >&2; exit 3")

    (job,) = site.wait_for_state("failed")
    assert (job["exit_code"], job["attempt"]) == (3, 1)
    assert "oops" in job["tail"]
    assert "so far so good" in site.cvm("job", "show", job_id[:8])
    assert site.cvm("job", "wait", check=False).returncode != 0


def test_a_job_that_leaves_no_output_is_not_done(site):
    site.start_all(pilots=1)

    site.submit("true")

    (job,) = site.wait_for_state("failed")
    assert "left no" in job["reason"]


def test_a_job_that_leaves_a_link_for_an_output_is_not_done(site):
    site.start_all(pilots=1)

    site.submit("ln -s /etc/passwd {id}_0.txt")

    (job,) = site.wait_for_state("failed")
    assert "output" in job["reason"]
    assert json.loads(site.cvm("storage", "ls", "--json")) == []


def test_a_wall_limit_is_kept(site):
    site.start_all(pilots=1)
    site.cvm("job", "submit", "--wall-limit", "0.5", "--", "sleep", "603")

    (job,) = site.wait_for_state("failed")

    assert "wall limit" in job["reason"]
    assert not _processes("sleep 603")


def test_a_cancelled_job_is_stopped_where_it_runs(site):
    site.start_all(pilots=1)
    (job_id,) = site.submit("sleep 604", outputs=())
    site.wait_for(lambda: _processes("sleep 604"))

    assert "cancelled" in site.cvm("job", "cancel", job_id)

    site.wait_for(lambda: not _processes("sleep 604"), 10)
    site.submit(quick())
    site.wait_for_state("done")


def test_a_job_sees_little_of_the_pilots_environment(site):
    site.env["SECRET_OF_THE_PILOT"] = "x"
    site.start_all(pilots=1)
    site.cvm("job", "submit", "--env", "OWN={seed}", "--output", "env.txt", "--", "sh", "-c", "env > env.txt")

    (job,) = site.wait_for_state("done")

    site.cvm("storage", "get", job["outputs"][0]["path"], "--output", str(site.tmp_path / "env"))
    text = (site.tmp_path / "env").read_text()
    assert "OWN=1" in text
    assert f"CVM_JOB_ID={job['id']}" in text
    assert "SECRET" not in text


def test_no_secret_is_in_any_log_or_command_line(site):
    site.start_all(pilots=1)
    site.submit(quick())
    site.wait_for_state("done")

    secrets = [path.read_text() for path in (site.home.bus / "accounts").iterdir()]
    secrets.append((site.home.path / "storage.key").read_text())
    logs = "".join(path.read_text() for path in site.tmp_path.glob("*.log"))
    logs += "".join(path.read_text() for path in site.home.bus.glob("*.log"))
    lines = b"".join(_command_lines()).decode(errors="replace")
    assert not [secret for secret in secrets if secret in logs or secret in lines]


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


def _command_lines():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ") + b"\n"
        except OSError:
            continue
