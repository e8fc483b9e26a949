"""The life of a job under every order of events, against a model of what must always hold."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cernvm.core.errors import ConflictError, InvalidInputError, LeaseLostError
from cernvm.pilot import lease
from cernvm.pilot.job import MAX_ATTEMPTS, Job, JobState, Output

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OUTPUT = Output("a.root", 3, "0" * 64)
JOB = Job("1", "one", ("true",), outputs=("a.root",))


def given(job=JOB, agent="p1", now=NOW):
    return lease.give(job, agent, now=now, lease_s=30)


def declared(job, fence=1):
    return lease.declare(job, fence, [OUTPUT], now=NOW, lease_s=30)


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def test_a_job_is_done_when_its_outputs_were_declared():
    job = lease.complete(declared(given()), 1, now=after(5))

    assert (job.state, job.exit_code, job.lease) == (JobState.DONE, 0, None)


def test_completing_twice_changes_nothing():
    job = lease.complete(declared(given()), 1, now=after(5))

    assert lease.complete(job, 1, now=after(9)) == job


def test_a_job_without_its_declaration_is_not_done():
    with pytest.raises(InvalidInputError, match="declared"):
        lease.complete(given(), 1, now=NOW)


@pytest.mark.parametrize(
    "made", [[], [OUTPUT, replace(OUTPUT, name="b")], [replace(OUTPUT, name="b")]]
)
def test_other_outputs_than_promised_are_refused(made):
    with pytest.raises(InvalidInputError, match=r"a\.root"):
        lease.declare(given(), 1, made, now=NOW, lease_s=30)


def test_a_silent_pilots_job_goes_back_when_its_lease_ends():
    job = given()

    assert lease.expire(job, now=after(29)) == job
    assert lease.expire(job, now=after(30)).state is JobState.WAITING


def test_a_renewed_lease_is_long_again():
    job = lease.renew(given(), 1, now=after(20), lease_s=30)

    assert lease.expire(job, now=after(49)).state is JobState.RUNNING
    assert job.started_at == after(20)


def test_a_pilot_seen_leaving_loses_its_job_after_the_grace():
    job = lease.shorten(given(), "p1", now=after(1), grace_s=10)

    assert lease.expire(job, now=after(11)).state is JobState.WAITING
    assert lease.shorten(given(), "p2", now=after(1), grace_s=10) == given()


def test_a_late_result_counts_while_nobody_else_has_the_job():
    job = lease.expire(declared(given()), now=after(60))

    assert lease.complete(job, 1, now=after(61)).state is JobState.DONE


def test_a_late_result_is_refused_once_somebody_else_has_the_job():
    job = given(lease.expire(declared(given()), now=after(60)), "p2", after(61))

    for word in (
        lambda: lease.complete(job, 1, now=after(62)),
        lambda: lease.renew(job, 1, now=after(62), lease_s=30),
        lambda: lease.give_back(job, 1, "", counts=True, now=after(62)),
        lambda: lease.fail(job, 1, exit_code=1, reason="", tail="", now=after(62)),
        lambda: lease.declare(job, 1, [OUTPUT], now=after(62), lease_s=30),
    ):
        with pytest.raises(LeaseLostError, match="lease 1"):
            word()


def test_a_job_fails_after_its_last_attempt():
    job = JOB
    for attempt in range(1, MAX_ATTEMPTS + 1):
        job = lease.expire(given(job, now=after(100 * attempt)), now=after(100 * attempt + 30))

    assert job.state is JobState.FAILED
    assert "attempt 3 of 3" in job.reason


def test_leaving_in_good_order_uses_up_no_attempt():
    job = lease.give_back(given(), 1, "stopped", counts=False, now=NOW)

    assert (job.state, job.attempt, job.fence) == (JobState.WAITING, 0, 1)


def test_a_failed_command_is_not_tried_again_by_itself():
    job = lease.fail(given(), 1, exit_code=3, reason="r", tail="x" * 99_999, now=NOW)

    assert (job.state, job.exit_code) == (JobState.FAILED, 3)
    assert len(job.tail) == lease.MAX_TAIL
    assert lease.retry(job, now=NOW).state is JobState.WAITING


def test_a_done_job_is_neither_cancelled_nor_retried():
    job = lease.complete(declared(given()), 1, now=NOW)

    with pytest.raises(ConflictError):
        lease.cancel(job, now=NOW)
    with pytest.raises(ConflictError):
        lease.retry(job, now=NOW)


def test_a_cancelled_jobs_pilot_is_told_so():
    job = lease.cancel(given(), now=NOW)

    with pytest.raises(LeaseLostError, match="cancelled"):
        lease.renew(job, 1, now=NOW, lease_s=30)


class JobLife(RuleBasedStateMachine):
    """Pilots with old and new fences say anything at any time."""

    def __init__(self):
        super().__init__()
        self.job = JOB
        self.now = NOW
        self.ends = []
        self.highest_fence = 0

    def attempt(self, word):
        try:
            changed = word()
        except (ConflictError, InvalidInputError):
            return
        self.note(changed)

    def note(self, changed):
        if changed.state is JobState.DONE and self.job.state is not JobState.DONE:
            self.ends.append(changed.fence)
        self.job = changed

    fences = st.integers(0, 6)

    @rule(seconds=st.sampled_from([1, 15, 40]))
    def time_passes(self, seconds):
        self.now += timedelta(seconds=seconds)
        self.note(lease.expire(self.job, now=self.now))

    @precondition(lambda self: self.job.state is JobState.WAITING)
    @rule(agent=st.sampled_from(["p1", "p2"]))
    def given_out(self, agent):
        self.note(lease.give(self.job, agent, now=self.now, lease_s=30))
        assert self.job.fence == self.highest_fence + 1
        self.highest_fence = self.job.fence

    @rule(fence=fences)
    def renewed(self, fence):
        self.attempt(lambda: lease.renew(self.job, fence, now=self.now, lease_s=30))

    @rule(fence=fences)
    def declared(self, fence):
        self.attempt(lambda: lease.declare(self.job, fence, [OUTPUT], now=self.now, lease_s=30))

    @rule(fence=fences)
    def completed(self, fence):
        self.attempt(lambda: lease.complete(self.job, fence, now=self.now))

    @rule(fence=fences)
    def failed(self, fence):
        self.attempt(
            lambda: lease.fail(self.job, fence, exit_code=1, reason="", tail="", now=self.now)
        )

    @rule(fence=fences, counts=st.booleans())
    def given_back(self, fence, counts):
        self.attempt(lambda: lease.give_back(self.job, fence, "", counts=counts, now=self.now))

    @rule(agent=st.sampled_from(["p1", "p2"]))
    def seen_leaving(self, agent):
        self.note(lease.shorten(self.job, agent, now=self.now, grace_s=10))

    @rule()
    def cancelled(self):
        self.attempt(lambda: lease.cancel(self.job, now=self.now))

    @rule()
    def retried(self):
        self.attempt(lambda: lease.retry(self.job, now=self.now))

    @invariant()
    def a_lease_is_held_exactly_by_active_jobs(self):
        assert (self.job.lease is not None) == self.job.state.is_active

    @invariant()
    def the_lease_is_the_newest_ever_given(self):
        assert self.job.fence == self.highest_fence
        assert self.job.lease is None or self.job.lease.fence == self.highest_fence

    @invariant()
    def a_job_is_done_once_and_with_the_outputs_of_its_last_lease(self):
        assert len(self.ends) <= 1
        assert self.job.state is not JobState.DONE or self.job.declared == (OUTPUT,)

    @invariant()
    def attempts_stay_in_bounds(self):
        assert 0 <= self.job.attempt <= MAX_ATTEMPTS

    @invariant()
    def an_ended_job_has_an_end(self):
        assert self.job.state.is_final == (self.job.ended_at is not None)


JobLife.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
test_no_order_of_events_breaks_a_job = JobLife.TestCase
