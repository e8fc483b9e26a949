import hashlib
import json
import os
import signal
import time

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


def test_everything_ends_in_five_seconds_and_leaves_nothing(site, processes):
    site.start_all(pilots=1)  # a second one may be given the job just before it is stopped too
    site.submit("sleep 600", outputs=())
    site.wait_for_state("running")

    for name in ("pilot1", "jobs", "storage", "bus"):
        assert site.stop(name) < 5, name

    assert list(site.home.run.iterdir()) == []
    assert list((site.tmp_path / "work").iterdir()) == []
    assert not processes("sleep 600")
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


def test_a_killed_pilot_leaves_no_process(site, processes):
    site.start_all(pilots=1)
    site.submit("sh -c 'setsid sleep 601 & sleep 602'", outputs=())
    site.wait_for(lambda: processes("sleep 601") and processes("sleep 602"))

    site.kill("pilot1")

    site.wait_for(lambda: not processes("sleep 601") and not processes("sleep 602"), 5)


@pytest.mark.parametrize("victim", ["bus", "jobs", "storage"])
def test_jobs_survive_the_death_of(site, victim):
    site.start_all()
    site.submit(quick(0.5), count=4)
    site.wait_for_state("running")

    site.kill(victim)
    time.sleep(0.5)
    {"bus": site.start_bus, "jobs": site.start_jobs, "storage": site.start_storage}[victim]()

    assert_all_done_once(site, 4)


def test_prosodys_own_death_is_mended_by_its_keeper(site, processes):
    site.start_all(pilots=1)
    (prosody,) = processes(f"prosody --config {site.home.bus}")

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
        if site.has(lambda job: job.state.value == "failed"):
            site.cvm("job", "retry", "--all")
        restart[victim]()
    site.wait_for(lambda: site.has(lambda job: job.state.is_final, count=8), 60)
    if any(job["state"] == "failed" for job in site.jobs()):
        # three pilots died under one job, which says so
        assert "attempt 3 of 3" in site.cvm("job", "ls")
        site.cvm("job", "retry", "--all")

    assert_all_done_once(site, 8)
