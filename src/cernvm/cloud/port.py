"""What is asked of any cloud, and the values that come back.

An instance's state is one of EC2's words: pending, running, shutting-down, terminated, stopping, stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cernvm.core.errors import InvalidInputError

PENDING, RUNNING, TERMINATED = "pending", "running", "terminated"


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as its cloud describes it; `reason` says why it is in this state, where the cloud tells."""

    instance_id: str
    reservation_id: str
    owner: str
    groups: tuple[str, ...]
    image_id: str
    state: str
    launch_index: int
    instance_type: str
    launched_at: datetime
    address: str = ""
    dns: str = ""
    key_name: str = ""
    zone: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A machine image that a cloud offers."""

    image_id: str
    name: str
    location: str
    state: str
    is_public: bool
    architecture: str
    kind: str = "machine"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A wish for instances: at least `min_count`, at best `max_count`, of one image, with one user-data.

    `client_token` makes repeating the request harmless; without one the driver chooses one per request.
    """

    image_id: str
    min_count: int = 1
    max_count: int = 1
    instance_type: str = ""
    key_name: str = ""
    groups: tuple[str, ...] = ()
    user_data: bytes = b""
    client_token: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.min_count <= self.max_count:
            raise InvalidInputError(
                f"{self.min_count} to {self.max_count} instances make no sense",
                advice="ask for at least 1, and for a maximum that is not below the minimum",
            )


class Cloud(Protocol):
    """One account in one region of one cloud.

    Errors, all verbs: `DeniedError` for credentials that are not accepted, `HostError` and `DeadlineError` for a cloud
    that does not answer. Concurrency: one loop; verbs may overlap.
    """

    async def run(self, request: RunRequest) -> list[Instance]:
        """Start instances; they come back pending, in one reservation, ordered by launch index.

        Errors: `NotFoundError` for the image, `SpaceError` for a full quota, `InvalidInputError`.
        """

    async def instances(self, instance_ids: Sequence[str] = ()) -> list[Instance]:
        """The named instances, or all of this account, terminated ones too while the cloud still shows them.

        Errors: `NotFoundError` for an unknown id.
        """

    async def images(self, image_ids: Sequence[str] = ()) -> list[Image]:
        """The named images, or those that the cloud shows by itself. Errors: `NotFoundError` for an unknown id."""

    async def terminate(self, instance_ids: Sequence[str]) -> list[tuple[str, str]]:
        """Have instances end; returns each with its state now. Ended ones are no error.

        Errors: `NotFoundError` for an unknown id; then none was ended.
        """

    async def console(self, instance_id: str) -> bytes:
        """The last part of an instance's console. Errors: `NotFoundError`."""
