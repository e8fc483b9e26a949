import threading
from datetime import UTC, datetime, timedelta

import pytest

from cernvm.core.clock import FakeClock
from cernvm.core.errors import (
    ConflictError,
    DeniedError,
    ExistsError,
    NotFoundError,
    UnavailableError,
)
from cernvm.pilot import lease
from cernvm.pilot.job import Job, JobState, Output, make_jobs
from cernvm.pilot.memory import MemoryQueue
from cernvm.pilot.port import SeenAgent
from cernvm.pilot.queue import DatabaseQueue

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=["memory", "database"])
def queue(request, tmp_path, clock):
    if request.param == "memory":
        yield MemoryQueue(clock=clock)
        return
    kept = DatabaseQueue(f"sqlite:///{tmp_path / 'jobs.db'}", clock=clock)
    yield kept
    kept.close()


def some(count):
    return make_jobs(
        count=count,
        name="{index} ☃",
        command=("sh", "-c", "echo '{seed}' \udc80"),
        outputs=("{id}.root",),
        environment={"A": "b=c"},
        first_seed=1,
        wall_limit_s=60,
        now=NOW,
    )


def test_jobs_come_back_as_they_were_submitted(queue):
    jobs = some(3)

    queue.submit(jobs)

    assert queue.jobs() == jobs


def test_jobs_are_given_out_in_the_order_of_submission(queue):
    jobs = some(3)
    queue.submit(jobs)

    given = [queue.claim(f"p{n}", lease_s=30) for n in range(4)]

    assert [job and job.id for job in given] == [*(job.id for job in jobs), None]
    assert given[0].agent == "p0"
    assert queue.jobs(states=[JobState.LEASED]) == given[:3]


def test_a_job_submitted_twice_is_refused_with_all_its_company(queue):
    first, second = some(2)
    queue.submit([first])

    with pytest.raises(ExistsError):
        queue.submit([second, first])

    assert queue.jobs() == [first]


def test_a_rule_changes_a_job(queue, clock):
    queue.submit(some(1))
    job = queue.claim("p1", lease_s=30)
    made = [Output(job.outputs[0], 3, "0" * 64)]
    now = clock.now()

    queue.change(job.id, lambda job: lease.declare(job, 1, made, now=now, lease_s=30))
    done = queue.change(job.id, lambda job: lease.complete(job, 1, now=now + timedelta(seconds=1)))

    assert queue.jobs(ids=[job.id]) == [done]
    assert (done.state, done.declared) == (JobState.DONE, tuple(made))


def test_a_rule_that_refuses_leaves_the_job_as_it_was(queue):
    queue.submit(some(1))
    (job,) = queue.jobs()

    with pytest.raises(ConflictError):
        queue.change(job.id, lambda job: lease.retry(job, now=NOW))

    assert queue.jobs() == [job]


def test_a_job_that_does_not_exist_is_named(queue):
    with pytest.raises(NotFoundError, match="no-such"):
        queue.change("no-such", lambda job: job)


def test_a_job_is_given_to_one_pilot_only(queue):
    queue.submit(some(30))
    given = []

    def pilot(name):
        while (job := queue.claim(name, lease_s=30)) is not None:
            given.append(job.id)

    threads = [threading.Thread(target=pilot, args=(f"p{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(given) == sorted(job.id for job in queue.jobs())


def test_agents_are_remembered_with_the_host_they_named(queue):
    queue.see_agent(SeenAgent("p@b/1", "vm", NOW, is_present=True))
    queue.see_agent(SeenAgent("p@b/1", "", NOW + timedelta(seconds=5), is_present=False))

    assert queue.agents() == [SeenAgent("p@b/1", "vm", NOW + timedelta(seconds=5), False)]


def test_a_damaged_database_is_our_error(tmp_path):
    (tmp_path / "jobs.db").write_bytes(b"no database" * 1000)

    with pytest.raises(UnavailableError, match="database"):
        DatabaseQueue(f"sqlite:///{tmp_path / 'jobs.db'}")


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(DeniedError) as refused:
        DatabaseQueue(f"sqlite:///{tmp_path / 'absent' / 'jobs.db'}")

    assert refused.value.advice


def test_two_openings_of_one_file_are_one_queue(tmp_path):
    one, two = DatabaseQueue.in_folder(tmp_path / "q"), DatabaseQueue.in_folder(tmp_path / "q")
    one.submit([Job("7", "", ("true",))])

    assert two.claim("p", lease_s=30).id == "7"
    assert one.claim("p", lease_s=30) is None
    one.close()
    two.close()
