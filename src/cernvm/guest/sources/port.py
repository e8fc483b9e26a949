"""A place where a context may be found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from cernvm.core.clock import Deadline


@dataclass(frozen=True, slots=True)
class InstanceData:
    """What a cloud tells an instance about itself; what it does not tell, or tells wrongly, is empty."""

    instance_id: str = ""
    image_id: str = ""
    instance_type: str = ""
    reservation_id: str = ""
    launch_index: str = ""
    hostname: str = ""
    ipv4: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A context as a source has it; empty user-data means that the instance was started without any."""

    user_data: bytes = field(repr=False)
    instance: InstanceData = InstanceData()


class Source(Protocol):
    """One way to get a context. Concurrency: one probe at a time."""

    @property
    def name(self) -> str:
        """What the status calls it."""

    def probe(self, deadline: Deadline) -> Found | None:
        """The context of this instance; None where this source does not exist.

        Errors: `HostError` or `DeadlineError` when it exists, or may exist, but gives no whole answer in time;
        `ContextFormatError` when the answer is larger than any user-data may be.
        """
