"""How a job moves: each rule takes a job and returns the job after the event, or refuses.

A pilot speaks for a job with the fence of its lease. A word with another fence is late: `LeaseLostError`, except that
a result of the last lease still counts while nobody else was given the job.
Source: docs/formats/messages.md, "Leases".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from cernvm.core.errors import ConflictError, InvalidInputError, LeaseLostError
from cernvm.pilot.job import MAX_ATTEMPTS, Job, JobState, Lease, Output

MAX_REASON = 500
MAX_TAIL = 16 * 1024


def give(job: Job, agent: str, *, now: datetime, lease_s: float) -> Job:
    """A waiting job goes to a pilot. Errors: `ConflictError` when it does not wait."""
    if job.state is not JobState.WAITING:
        raise ConflictError(f"job {job.id} is {job.state.value}")
    fence = job.fence + 1
    return replace(
        job,
        state=JobState.LEASED,
        attempt=job.attempt + 1,
        fence=fence,
        lease=Lease(agent, fence, now + timedelta(seconds=lease_s)),
        agent=agent,
        declared=(),
        started_at=None,
        ended_at=None,
        exit_code=None,
    )


def renew(job: Job, fence: int, *, now: datetime, lease_s: float) -> Job:
    """The pilot works: its lease is long again. Errors: `LeaseLostError`."""
    lease = _held(job, fence)
    return replace(
        job,
        state=JobState.RUNNING,
        started_at=job.started_at or now,
        lease=replace(lease, until=now + timedelta(seconds=lease_s)),
    )


def shorten(job: Job, agent: str, *, now: datetime, grace_s: float) -> Job:
    """The pilot was seen leaving: if it stays away for `grace_s`, the job goes back; nothing for others' jobs."""
    if job.lease is None or job.lease.agent != agent:
        return job
    until = min(job.lease.until, now + timedelta(seconds=grace_s))
    return replace(job, lease=replace(job.lease, until=until))


def extend(job: Job, *, now: datetime, lease_s: float) -> Job:
    """Nobody could renew while the job agent was away: every lease starts again."""
    if job.lease is None:
        return job
    return replace(job, lease=replace(job.lease, until=now + timedelta(seconds=lease_s)))


def expire(job: Job, *, now: datetime) -> Job:
    """A lease that ran out: the job goes back, or fails after its last attempt; nothing before that."""
    if job.lease is None or now < job.lease.until:
        return job
    return _back(job, f"{job.agent} fell silent", now=now)


def give_back(job: Job, fence: int, reason: str, *, counts: bool, now: datetime) -> Job:
    """The pilot cannot go on; the attempt `counts` unless the pilot merely has to leave. Errors: `LeaseLostError`."""
    _held(job, fence)
    back = _back(job, reason, now=now, is_last=counts and job.attempt >= MAX_ATTEMPTS)
    return back if counts else replace(back, attempt=job.attempt - 1)


def declare(job: Job, fence: int, made: Sequence[Output], *, now: datetime, lease_s: float) -> Job:
    """The pilot says what it made, before any of it is stored.

    Errors: `LeaseLostError`; `InvalidInputError` when that is not exactly what the job must leave.
    """
    if {output.name for output in made} != set(job.outputs):
        raise InvalidInputError(
            f"job {job.id} must leave {', '.join(job.outputs) or 'nothing'}, "
            f"not {', '.join(output.name for output in made) or 'nothing'}"
        )
    renewed = renew(job, fence, now=now, lease_s=lease_s) if job.lease else _unassigned(job, fence)
    return replace(renewed, declared=tuple(made))


def complete(job: Job, fence: int, *, now: datetime) -> Job:
    """The job ended well and its outputs were checked; saying so twice changes nothing.

    Errors: `LeaseLostError`; `InvalidInputError` when an output was never declared.
    """
    if job.state is JobState.DONE and job.fence == fence:
        return job
    if job.lease is None:
        _unassigned(job, fence)
    else:
        _held(job, fence)
    if {output.name for output in job.declared} != set(job.outputs):
        raise InvalidInputError(f"job {job.id} ends without having declared its outputs")
    return replace(
        job, state=JobState.DONE, lease=None, ended_at=now, exit_code=0, reason="", tail=""
    )


def fail(job: Job, fence: int, *, exit_code: int, reason: str, tail: str, now: datetime) -> Job:
    """The command itself ended badly: trying again elsewhere would not help. Errors: `LeaseLostError`."""
    if job.state is JobState.FAILED and job.fence == fence:
        return job
    _held(job, fence)
    return replace(
        job,
        state=JobState.FAILED,
        lease=None,
        started_at=job.started_at or now,
        ended_at=now,
        exit_code=exit_code,
        reason=reason[:MAX_REASON],
        tail=tail[-MAX_TAIL:],
    )


def cancel(job: Job, *, now: datetime) -> Job:
    """Nobody wants the result any more; a pilot that holds it learns so when it renews.

    Errors: `ConflictError` when the job has ended otherwise.
    """
    if job.state in (JobState.DONE, JobState.FAILED):
        raise ConflictError(f"job {job.id} is {job.state.value} already")
    if job.state is JobState.CANCELLED:
        return job
    return replace(job, state=JobState.CANCELLED, lease=None, ended_at=now, reason="cancelled")


def retry(job: Job, *, now: datetime) -> Job:
    """An ended job waits again, with all its attempts. Errors: `ConflictError` when it has not failed."""
    if job.state not in (JobState.FAILED, JobState.CANCELLED):
        raise ConflictError(
            f"job {job.id} is {job.state.value}",
            advice="only failed and cancelled jobs are retried",
        )
    return replace(
        job,
        state=JobState.WAITING,
        attempt=0,
        agent="",
        declared=(),
        submitted_at=now,
        started_at=None,
        ended_at=None,
        exit_code=None,
        reason="",
        tail="",
    )


def _back(job: Job, reason: str, *, now: datetime, is_last: bool | None = None) -> Job:
    last = job.attempt >= MAX_ATTEMPTS if is_last is None else is_last
    if last:
        ended = f"{reason[: MAX_REASON - 40]} (attempt {job.attempt} of {MAX_ATTEMPTS})"
        return replace(job, state=JobState.FAILED, lease=None, ended_at=now, reason=ended)
    return replace(job, state=JobState.WAITING, lease=None, reason=reason[:MAX_REASON])


def _held(job: Job, fence: int) -> Lease:
    if job.lease is None or job.lease.fence != fence:
        raise _lost(job, fence)
    return job.lease


def _unassigned(job: Job, fence: int) -> Job:
    if job.state is not JobState.WAITING or job.fence != fence:
        raise _lost(job, fence)
    return job


def _lost(job: Job, fence: int) -> LeaseLostError:
    return LeaseLostError(f"lease {fence} of job {job.id} is over: the job is {job.state.value}")
