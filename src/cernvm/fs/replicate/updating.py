"""Replicas kept up to date: each again after so long, one after the other, a failure noted and tried again."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cernvm.core.clock import Clock
from cernvm.core.errors import CvmError, TransactionOpenError
from cernvm.core.log import fields
from cernvm.core.os_errors import from_os
from cernvm.fs.replicate.crew import DEFAULT_THREADS
from cernvm.fs.replicate.replica import Replica, open_replica
from cernvm.fs.replicate.replicating import Replicated, replicate
from cernvm.fs.replicate.state import format_date, note_status
from cernvm.fs.replicate.walk import Tally

LEAST_EVERY_S = 1.0
_JITTER = 0.2  # so that replicas of one upstream do not come all at once

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Update:
    """How one replica's turn went: what was done, or why it failed."""

    name: str
    replicated: Replicated | None
    error: CvmError | None = None


def update(
    replica: Replica,
    *,
    clock: Clock,
    threads: int = DEFAULT_THREADS,
    repairs: bool = False,
    on_progress: Callable[[Tally], None] = lambda _: None,
) -> Update:
    """Replicate once; what fails is noted in the replica's status, for whoever watches it."""
    try:
        done = replicate(
            replica,
            open_replica(replica),
            threads=threads,
            repairs=repairs,
            clock=clock,
            on_progress=on_progress,
        )
    except TransactionOpenError as error:
        return Update(replica.name, None, error)  # somebody else is at it
    except (CvmError, OSError) as caught:
        cause = caught if isinstance(caught, CvmError) else from_os(caught)
        log.warning("replicate.failed", extra=fields(name=replica.name, cause=str(cause)))
        _note_failure(replica, cause, clock)
        return Update(replica.name, None, cause)
    return Update(replica.name, done)


def keep_updated(
    replicas: Callable[[], Sequence[Replica]],
    *,
    every_s: float,
    clock: Clock,
    threads: int = DEFAULT_THREADS,
    on_update: Callable[[Update], None] = lambda _: None,
    is_over: Callable[[], bool] = lambda: False,
    source: random.Random | None = None,
) -> None:
    """Go on until `is_over`, or for ever; `replicas` is asked before each round, as there may be more by then."""
    dice = source or random.Random()
    while not is_over():
        for replica in replicas():
            on_update(update(replica, clock=clock, threads=threads))
        clock.sleep(max(LEAST_EVERY_S, every_s * dice.uniform(1 - _JITTER, 1 + _JITTER)))


def _note_failure(replica: Replica, error: CvmError, clock: Clock) -> None:
    note = {"last_error": str(error)[:1000], "last_error_at": format_date(clock.now())}
    try:
        note_status(open_replica(replica), note)
    except CvmError as unwritable:
        # the store may be what failed
        log.warning("replicate.unnoted", extra=fields(name=replica.name, cause=str(unwritable)))
