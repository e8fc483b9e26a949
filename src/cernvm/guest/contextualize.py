"""One contextualization: find, read, plan, apply, and keep what became of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from cernvm.context.reading import read_context
from cernvm.core.clock import Clock
from cernvm.core.log import fields
from cernvm.guest.apply import apply_plan
from cernvm.guest.machine import Machine
from cernvm.guest.plan import Launch, make_plan
from cernvm.guest.sources.port import Source
from cernvm.guest.sources.search import SEARCH_BUDGET_S, find_context
from cernvm.guest.status import CommandStatus, State, Status, write_status

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Contextualized:
    """What became of the context, and the program to start, if all it needs is there."""

    status: Status
    launch: Launch | None = None


def contextualize(
    sources: Sequence[Source],
    machine: Machine,
    clock: Clock,
    *,
    budget_s: float = SEARCH_BUDGET_S,
    record: bool = True,
) -> Contextualized:
    """Make the machine play the role its user-data gives it; if `record`, the status file says how it went.

    Errors: `OSError` when not even the status can be written.
    """
    begin = clock.monotonic()
    if record:
        write_status(Status(State.SEARCHING), machine)
    done = _contextualize(sources, machine, clock, budget_s, begin)
    if record:
        write_status(done.status, machine)
    log.log(
        logging.INFO if done.status.state is State.DONE else logging.ERROR,
        "context.applied" if done.status.state is State.DONE else "context.failed",
        extra=fields(reason=done.status.reason or "-", took_ms=done.status.took_ms),
    )
    return done


def _contextualize(
    sources: Sequence[Source], machine: Machine, clock: Clock, budget_s: float, begin: float
) -> Contextualized:
    search = find_context(sources, clock, budget_s=budget_s)
    if search.found is None:
        reason = "; ".join(
            f"{attempt.source}: {attempt.reason or attempt.outcome}" for attempt in search.attempts
        )
        state = (
            State.FAILED
            if any(attempt.outcome == "failed" for attempt in search.attempts)
            else State.NO_CONTEXT
        )
        return Contextualized(
            Status(state, reason, took_ms=_ms(clock, begin), sources=search.attempts)
        )
    instance = search.found.instance
    reading = read_context(search.found.user_data)
    findings = tuple(finding.for_others() for finding in reading.findings)
    for finding in findings:
        log.warning("context.finding", extra=fields(finding=finding))
    if reading.context is None:
        return Contextualized(
            Status(
                State.FAILED,
                "the user-data has errors: nothing of it is applied",
                instance.instance_id,
                _ms(clock, begin),
                search.attempts,
                findings,
            )
        )
    plan = make_plan(reading.context, instance)
    applied = apply_plan(plan, machine, clock)
    failed = [result.step for result in applied.results if not result.is_good]
    is_ready = plan.launch and plan.launch.name not in failed
    command = plan.launch.command if plan.launch else None
    status = Status(
        State.FAILED if failed else State.DONE,
        f"failed: {', '.join(failed)}" if failed else "",
        instance.instance_id,
        _ms(clock, begin),
        search.attempts,
        findings,
        applied.results,
        CommandStatus(command.user, command.argv[0], "not started") if command else None,
    )
    return Contextualized(status, plan.launch if is_ready else None)


def _ms(clock: Clock, begin: float) -> int:
    return round((clock.monotonic() - begin) * 1000)
