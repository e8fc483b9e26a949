"""`cvm job`: submit, watch and cancel jobs; works on the queue itself, also while the job agent is down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json, print_rows
from cernvm.core.errors import CvmError, DeadlineError, InvalidInputError, NotFoundError
from cernvm.core.home import Home
from cernvm.core.units import format_seconds
from cernvm.pilot import lease
from cernvm.pilot.job import Job, JobState, make_jobs
from cernvm.pilot.queue import DatabaseQueue

COLUMNS = ["id", "name", "state", "agent", "attempt", "duration", "output"]
LOOK_EVERY_S = 0.3
REFRESH_S = 1.0


@click.group(epilog="Example: cvm job submit --count 8 -- COMMAND")
def job() -> None:
    """Submit, list and cancel jobs."""


@job.command(
    epilog="Example: cvm job submit --count 8 --output {id}.txt -- sh -c 'echo {seed} > {id}.txt'",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--name", default="job-{index}", show_default=True, help="Name for people.")
@click.option("--seed", "first_seed", default=1, show_default=True, help="The first job's {seed}.")
@click.option("--output", "outputs", multiple=True, help="A file the job must leave; repeatable.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="Repeatable.")
@click.option("--wall-limit", "wall_limit_s", default=86400.0, help="Seconds a job may run.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@json_option
@click.pass_obj
def submit(
    edge: Edge,
    *,
    count: int,
    name: str,
    first_seed: int,
    outputs: tuple[str, ...],
    variables: tuple[str, ...],
    wall_limit_s: float,
    command: tuple[str, ...],
    as_json: bool,
) -> None:
    """Put jobs that run COMMAND into the queue; {id}, {index} and {seed} are filled in everywhere."""
    made = make_jobs(
        count=count,
        name=name,
        command=command,
        outputs=outputs,
        environment=dict(_variable(text) for text in variables),
        first_seed=first_seed,
        wall_limit_s=wall_limit_s,
        now=datetime.now(UTC),
    )
    with open_queue(edge.home) as queue:
        queue.submit(made)
    if as_json:
        print_json([_details(one) for one in made])
        return
    for one in made:
        click.echo(one.id)


@job.command("ls", epilog="Example: cvm job ls --watch")
@click.option("--watch", is_flag=True, help="Keep showing until every job has ended.")
@json_option
@click.pass_obj
def ls(edge: Edge, *, watch: bool, as_json: bool) -> None:
    """List the jobs."""
    with open_queue(edge.home) as queue:
        while True:
            found = queue.jobs()
            if watch and not as_json:
                click.clear()
            rows = [_details(one) if as_json else _row(one) for one in found]
            print_rows(rows, columns=COLUMNS, as_json=as_json)
            if not watch or all(one.state.is_final for one in found):
                return
            time.sleep(REFRESH_S)


@job.command(epilog="Example: cvm job show 3f0c --json")
@click.argument("job_id", metavar="ID")
@json_option
@click.pass_obj
def show(edge: Edge, job_id: str, *, as_json: bool) -> None:
    """Show all that is known of a job; ID may be cut short."""
    with open_queue(edge.home) as queue:
        details = _details(_find(queue, job_id))
    if as_json:
        print_json(details)
        return
    for name, value in details.items():
        click.echo(f"{name:14}{value}")


@job.command(epilog="Example: cvm job cancel --all")
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every job that has not ended.")
@click.pass_obj
def cancel(edge: Edge, job_ids: tuple[str, ...], *, everything: bool) -> None:
    """Cancel jobs; a pilot that runs one stops it when it next reports."""
    _change_all(
        edge.home,
        job_ids,
        lambda one: lease.cancel(one, now=datetime.now(UTC)),
        wanted=(lambda one: not one.state.is_final) if everything else None,
    )


@job.command(epilog="Example: cvm job retry --all")
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every job that failed.")
@click.pass_obj
def retry(edge: Edge, job_ids: tuple[str, ...], *, everything: bool) -> None:
    """Put failed or cancelled jobs into the queue again."""
    _change_all(
        edge.home,
        job_ids,
        lambda one: lease.retry(one, now=datetime.now(UTC)),
        wanted=(lambda one: one.state is JobState.FAILED) if everything else None,
    )


@job.command(epilog="Example: cvm job wait --timeout 600")
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option("--timeout", "timeout_s", default=3600.0, show_default=True, help="Seconds.")
@json_option
@click.pass_obj
def wait(edge: Edge, job_ids: tuple[str, ...], *, timeout_s: float, as_json: bool) -> None:
    """Wait until the jobs (or all) have ended; fails when one of them did not end well."""
    end = time.monotonic() + timeout_s
    with open_queue(edge.home) as queue:
        ids = [_find(queue, job_id).id for job_id in job_ids]
        while True:
            found = queue.jobs(ids=ids)
            if all(one.state.is_final for one in found):
                break
            if time.monotonic() > end:
                raise DeadlineError("waiting for jobs", after_s=timeout_s, advice="see: cvm job ls")
            time.sleep(LOOK_EVERY_S)
    rows = [_details(one) if as_json else _row(one) for one in found]
    print_rows(rows, columns=COLUMNS, as_json=as_json)
    if bad := [one for one in found if one.state is not JobState.DONE]:
        raise CvmError(
            f"{len(bad)} of {len(found)} jobs did not end well",
            advice=f"see: cvm job show {bad[0].id}",
        )


@contextmanager
def open_queue(home: Home) -> Iterator[DatabaseQueue]:
    """The queue of this data folder."""
    queue = DatabaseQueue.in_folder(home.pilot)
    try:
        yield queue
    finally:
        queue.close()


def _change_all(
    home: Home,
    job_ids: tuple[str, ...],
    rule: Callable[[Job], Job],
    *,
    wanted: Callable[[Job], bool] | None,
) -> None:
    if bool(job_ids) == (wanted is not None):
        raise click.UsageError("name the jobs, or give --all")
    with open_queue(home) as queue:
        chosen = [_find(queue, job_id).id for job_id in job_ids]
        if wanted is not None:
            chosen = [one.id for one in queue.jobs() if wanted(one)]
        for job_id in chosen:
            click.echo(f"{job_id}  {queue.change(job_id, rule).state.value}")


def _find(queue: DatabaseQueue, text: str) -> Job:
    found = [one for one in queue.jobs() if one.id.startswith(text)]
    if not found:
        raise NotFoundError("job", text, advice="see: cvm job ls")
    if len(found) > 1:
        raise InvalidInputError(f"{len(found)} jobs begin with {text!r}", advice="write more of it")
    return found[0]


def _variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise InvalidInputError(f"{text!r} is no variable", advice="write NAME=VALUE")
    return name, value


def _row(one: Job) -> dict[str, object]:
    spent_s = one.duration_s(datetime.now(UTC))
    return {
        "id": one.id,
        "name": one.name,
        "state": one.state.value,
        "agent": one.agent.partition("/")[2],
        "attempt": one.attempt,
        "duration": "" if spent_s is None else format_seconds(spent_s),
        "output": ", ".join(one.outputs) if one.state is JobState.DONE else one.reason,
    }


def _details(one: Job) -> dict[str, object]:
    kept = one.declared if one.state is JobState.DONE else ()
    return {
        "id": one.id,
        "name": one.name,
        "state": one.state.value,
        "command": list(one.command),
        "environment": dict(one.environment),
        "agent": one.agent,
        "attempt": one.attempt,
        "submitted_at": one.submitted_at and one.submitted_at.isoformat(),
        "started_at": one.started_at and one.started_at.isoformat(),
        "ended_at": one.ended_at and one.ended_at.isoformat(),
        "duration_s": one.duration_s(datetime.now(UTC)),
        "exit_code": one.exit_code,
        "reason": one.reason,
        "tail": one.tail,
        "outputs": [
            {
                "name": output.name,
                "path": f"{one.folder}/{output.name}",
                "size_bytes": output.size_bytes,
                "sha256": output.sha256,
            }
            for output in kept
        ],
    }
