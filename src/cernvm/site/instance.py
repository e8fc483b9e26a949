"""Instances and images of the site cloud: what they are, and the states an instance passes through.

::

    pending ──▶ running ──▶ shutting-down ──▶ terminated
       │  ▲        │ │                           ▲
       │  └────────┘ └───── its init ended ──────┤
       └──────── it could not be started ────────┘

Running goes back to pending only when the site itself starts again and starts the instance anew.
Source: docs/formats/ec2.md, "Instances".
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Address

from cernvm.core.errors import ConflictError


class State(Enum):
    """An instance's state, by the name that EC2 gives it."""

    PENDING = "pending"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"

    @property
    def code(self) -> int:
        """The number that EC2 gives the state."""
        return _CODES[self]


_CODES = {State.PENDING: 0, State.RUNNING: 16, State.SHUTTING_DOWN: 32, State.TERMINATED: 48}

TRANSITIONS: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.RUNNING, State.SHUTTING_DOWN, State.TERMINATED}),
    State.RUNNING: frozenset({State.PENDING, State.SHUTTING_DOWN, State.TERMINATED}),
    State.SHUTTING_DOWN: frozenset({State.TERMINATED}),
    State.TERMINATED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an instance left its last state; `code` is one of EC2's StateReason codes."""

    code: str
    text: str


BY_USER = Reason("Client.UserInitiatedShutdown", "terminated by its owner")
BY_ITSELF = Reason("Client.InstanceInitiatedShutdown", "its init ended")
SITE_RESTART = Reason("Server.ScheduledStop", "the site started again")


def failed(cause: str) -> Reason:
    """The reason of an instance that the site could not start or lost."""
    return Reason("Server.InternalError", cause)


@dataclass(frozen=True, slots=True)
class Image:
    """A machine image: the name of an operating system release and the repository that carries it."""

    name: str
    repository: str

    @property
    def image_id(self) -> str:
        """The AMI id: the same at every site that offers this name from this repository."""
        text = f"{self.name}\n{self.repository}".encode()
        return f"ami-{hashlib.sha256(text).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as its owner sees it."""

    instance_id: str
    reservation_id: str
    owner_id: str
    image_id: str
    launch_index: int
    instance_type: str
    key_name: str
    groups: tuple[str, ...]
    address: IPv4Address
    state: State
    launched_at: datetime
    changed_at: datetime
    client_token: str = ""
    reason: Reason | None = None

    @property
    def hostname(self) -> str:
        """The name the instance gives itself, made of its address."""
        return "ip-" + str(self.address).replace(".", "-")

    @property
    def is_live(self) -> bool:
        """Whether it still counts against the quota and holds its address."""
        return self.state is not State.TERMINATED

    def moved(self, state: State, *, at: datetime, reason: Reason | None = None) -> Instance:
        """The same instance in its next state.

        Errors: `ConflictError` for a step that the state machine does not have.
        """
        if state not in TRANSITIONS[self.state]:
            raise ConflictError(
                f"the instance {self.instance_id} is {self.state.value} and cannot become {state.value}"
            )
        return replace(self, state=state, changed_at=at, reason=reason)


def new_instance_id() -> str:
    """A fresh instance id: `i-` and 8 hex digits."""
    return f"i-{secrets.token_hex(4)}"


def new_reservation_id() -> str:
    """A fresh reservation id: `r-` and 8 hex digits."""
    return f"r-{secrets.token_hex(4)}"
