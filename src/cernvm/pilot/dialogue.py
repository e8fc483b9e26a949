"""The pilot's side of the conversation: a state machine that is told what happens and answers what to do.

It opens no socket and starts no process. One job at a time: ask, choose the first manager that answers, run, declare,
store, finish, ask again. `getJob` goes to the very manager that answered; all that follows goes to the managers'
account, because the one that gave the job may be gone and another may speak for it. A message that is not expected is
ignored; a job that cannot be taken is given back.
Source: docs/formats/messages.md, "Jobs".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from cernvm.core.retry import backoff_s
from cernvm.messaging.message import Fields, Message
from cernvm.messaging.port import bare_address
from cernvm.pilot import commands
from cernvm.pilot.commands import Destination, Ending, JobKey, Order
from cernvm.pilot.job import Output

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
ANSWER_S = 30.0
REPEAT_S = 10.0
BEATS_PER_LEASE = 3


class Phase(Enum):
    """What the pilot is doing."""

    ASKING = "asking"
    CHOSEN = "chosen"
    RUNNING = "running"
    DECLARED = "declared"
    STORING = "storing"
    FINISHING = "finishing"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Say:
    """Send a command."""

    recipient: str
    command: str
    fields: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Execute:
    """Run the job; its end is told by `exited` or `broke`."""

    order: Order


@dataclass(frozen=True, slots=True)
class Store:
    """Upload the outputs; the end is told by `stored` or `broke`."""

    destination: Destination
    made: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """Stop whatever is done for the job and delete its work folder."""


Action: TypeAlias = Say | Execute | Store | Drop


class Dialogue:
    """One pilot's conversation with the job agent at `manager`.

    Every method is an event at the moment `now` (seconds on one scale) and returns what to do, in order.
    """

    def __init__(self, *, manager: str, host: str) -> None:
        self.phase = Phase.STOPPED
        self._manager = manager
        self._host = host
        self._order: Order | None = None
        self._made: tuple[Output, ...] = ()
        self._ending: Ending | None = None
        self._pauses = _pauses()
        self._turn_at = math.inf  # when the present phase has waited long enough
        self._beat_at = math.inf  # when the lease has to be renewed

    @property
    def wake_at(self) -> float:
        """When `elapsed` has to be called, if nothing happens before."""
        return min(self._turn_at, self._beat_at)

    def start(self, now: float) -> list[Action]:
        """Begin to ask for jobs."""
        self._pauses = _pauses()
        return [self._ask(now)]

    def elapsed(self, now: float) -> list[Action]:
        """Time has passed: ask again, say again, renew the lease."""
        actions: list[Action] = []
        if now >= self._beat_at and self._order is not None:
            actions.append(self._beat(self._order, now))
        if now >= self._turn_at:
            actions.append(self._again(now))
        return actions

    def received(self, message: Message, now: float) -> list[Action]:
        """A message came. Errors: `MessageFormatError` when it is one of ours and makes no sense."""
        if bare_address(message.sender) != bare_address(self._manager):
            return []
        match message.command:
            case commands.HAVE_JOB if self.phase is Phase.ASKING:
                self.phase, self._turn_at = Phase.CHOSEN, now + ANSWER_S
                return [Say(message.sender, commands.GET_JOB, {"agentHost": self._host})]
            case commands.NO_JOB if self.phase is Phase.CHOSEN:
                self.phase, self._turn_at = Phase.ASKING, now + next(self._pauses)
            case commands.RUN_JOB:
                return self._take(commands.read_order(message), now)
            case commands.STORE_OUTPUT_DIR if self.phase is Phase.DECLARED:
                return self._store(commands.read_destination(message))
            case commands.JOB_ACCEPTED if self.phase is Phase.FINISHING and self._is_mine(message):
                return self._next_job(now)
            case commands.DROP_JOB if self._order is not None and self._is_mine(message):
                return self._next_job(now)
        return []

    def exited(self, ending: Ending, made: Sequence[Output], now: float) -> list[Action]:
        """The job's command ended; `made` are the outputs it left, if it ended well."""
        if self.phase is not Phase.RUNNING or self._order is None or ending.key != self._order.key:
            return []
        if not ending.is_good or not self._order.outputs:
            return [self._finish(ending, now)]
        self._ending, self._made = ending, tuple(made)
        self.phase = Phase.DECLARED
        return [self._again(now)]

    def stored(self, key: JobKey, now: float) -> list[Action]:
        """Every output is in the storage."""
        if self.phase is not Phase.STORING or self._ending is None or self._ending.key != key:
            return []
        return [self._finish(self._ending, now)]

    def broke(self, key: JobKey, reason: str, now: float) -> list[Action]:
        """Something that is not the job's fault keeps it from going on here."""
        if self._order is None or self._order.key != key:
            return []
        given_back = self._give_back(key, reason, counts=True)
        return [given_back, *self._next_job(now, ask_at_once=False)]

    def stop(self, reason: str) -> list[Action]:
        """This pilot has to leave: its job goes back at once."""
        actions: list[Action] = []
        if self._order is not None:
            actions = [
                Drop(),
                self._give_back(self._order.key, reason, counts=False),
            ]
        self.phase, self._order = Phase.STOPPED, None
        self._turn_at = self._beat_at = math.inf
        return actions

    def _ask(self, now: float) -> Say:
        self.phase = Phase.ASKING
        self._turn_at = now + next(self._pauses)
        return Say(self._manager, commands.WANT_JOB, {"agentHost": self._host})

    def _again(self, now: float) -> Say:
        if self.phase is Phase.DECLARED and self._order is not None:
            self._turn_at = now + REPEAT_S
            fields = commands.declaration_fields(self._order.key, self._host, self._made)
            return Say(self._manager, commands.GET_OUTPUT_DIR, fields)
        if self.phase is Phase.FINISHING and self._ending is not None:
            return self._finish(self._ending, now)
        return self._ask(now)

    def _take(self, order: Order, now: float) -> list[Action]:
        if self._order is not None and order.key == self._order.key:
            return []
        if self.phase is not Phase.CHOSEN:
            return [self._give_back(order.key, "it came too late", counts=False)]
        self.phase, self._order = Phase.RUNNING, order
        self._turn_at = math.inf
        return [self._beat(order, now), Execute(order)]

    def _beat(self, order: Order, now: float) -> Say:
        self._beat_at = now + order.lease_s / BEATS_PER_LEASE
        return Say(self._manager, commands.JOB_RUNNING, order.key.to_fields(agentHost=self._host))

    def _store(self, destination: Destination) -> list[Action]:
        if self._order is None or destination.key != self._order.key:
            return []
        self.phase, self._turn_at = Phase.STORING, math.inf
        return [Store(destination, self._made)]

    def _finish(self, ending: Ending, now: float) -> Say:
        self.phase, self._ending = Phase.FINISHING, ending
        self._turn_at = now + REPEAT_S
        return Say(self._manager, commands.JOB_DONE, commands.ending_fields(ending, self._host))

    def _next_job(self, now: float, *, ask_at_once: bool = True) -> list[Action]:
        self._order, self._ending, self._made = None, None, ()
        self._beat_at = math.inf
        if ask_at_once:
            return [Drop(), *self.start(now)]
        self.phase, self._turn_at = Phase.ASKING, now + next(self._pauses)
        return [Drop()]

    def _is_mine(self, message: Message) -> bool:
        return self._order is not None and commands.read_key(message) == self._order.key

    def _give_back(self, key: JobKey, reason: str, *, counts: bool) -> Say:
        fields = key.to_fields(reason=reason[:500], counts="1" if counts else "0")
        return Say(self._manager, commands.GIVE_BACK, fields)


def _pauses() -> Iterator[float]:
    return backoff_s(initial_s=FIRST_PAUSE_S, maximum_s=LONGEST_PAUSE_S)
