"""The twin of every cloud: instances that exist only as values."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from cernvm.cloud.port import PENDING, RUNNING, TERMINATED, Image, Instance, RunRequest
from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import CvmError, ExistsError, NotFoundError, SpaceError

DEFAULT_TYPE = "m1.small"

T = TypeVar("T")


@dataclass(slots=True)
class MemoryCloud:
    """Keeps the promises of `Cloud`; an instance runs as soon as it is looked at again.

    `fail_next` is raised by the next verb; `write` adds to a console.
    """

    offered: Iterable[Image] = ()
    owner: str = "memory"
    quota: int = 100
    clock: Clock = field(default_factory=SystemClock)
    fail_next: CvmError | None = None
    _instances: dict[str, Instance] = field(default_factory=dict)
    _consoles: dict[str, bytearray] = field(default_factory=dict)
    _requests: dict[str, tuple[RunRequest, list[str]]] = field(default_factory=dict)

    async def run(self, request: RunRequest) -> list[Instance]:
        self._fail()
        if request.client_token in self._requests:
            return self._repeated(request)
        _find(request.image_id, {image.image_id: image for image in self.offered}, "image")
        live = sum(instance.state != TERMINATED for instance in self._instances.values())
        number = min(request.max_count, self.quota - live)
        if number < request.min_count:
            raise SpaceError(f"the quota of {self.quota} instances has no room")
        reservation_id = f"r-{secrets.token_hex(4)}"
        started = [self._new(request, reservation_id, index) for index in range(number)]
        if request.client_token:
            self._requests[request.client_token] = (request, [i.instance_id for i in started])
        return started

    async def instances(self, instance_ids: Sequence[str] = ()) -> list[Instance]:
        self._fail()
        chosen = [_find(name, self._instances, "instance") for name in instance_ids]
        for instance in chosen or list(self._instances.values()):
            if instance.state == PENDING:
                self._instances[instance.instance_id] = replace(instance, state=RUNNING)
        names = instance_ids or list(self._instances)
        return [self._instances[name] for name in names]

    async def images(self, image_ids: Sequence[str] = ()) -> list[Image]:
        self._fail()
        known = {image.image_id: image for image in self.offered}
        return [_find(name, known, "image") for name in image_ids] or list(known.values())

    async def terminate(self, instance_ids: Sequence[str]) -> list[tuple[str, str]]:
        self._fail()
        for instance in [_find(name, self._instances, "instance") for name in instance_ids]:
            self._instances[instance.instance_id] = replace(instance, state=TERMINATED)
        return [(name, TERMINATED) for name in instance_ids]

    async def console(self, instance_id: str) -> bytes:
        self._fail()
        _find(instance_id, self._instances, "instance")
        return bytes(self._consoles[instance_id])

    def write(self, instance_id: str, output: bytes) -> None:
        """Add to an instance's console."""
        self._consoles[instance_id] += output

    def _fail(self) -> None:
        if (error := self.fail_next) is not None:
            self.fail_next = None
            raise error

    def _repeated(self, request: RunRequest) -> list[Instance]:
        earlier, names = self._requests[request.client_token]
        if earlier != request:
            raise ExistsError("client token", request.client_token)
        return [self._instances[name] for name in names]

    def _new(self, request: RunRequest, reservation_id: str, index: int) -> Instance:
        number = len(self._instances) + 2
        instance = Instance(
            instance_id=f"i-{secrets.token_hex(4)}",
            reservation_id=reservation_id,
            owner=self.owner,
            groups=request.groups or ("default",),
            image_id=request.image_id,
            state=PENDING,
            launch_index=index,
            instance_type=request.instance_type or DEFAULT_TYPE,
            launched_at=self.clock.now(),
            address=f"10.0.{number >> 8}.{number & 255}",
            dns=f"10.0.{number >> 8}.{number & 255}",
            key_name=request.key_name,
        )
        self._instances[instance.instance_id] = instance
        self._consoles[instance.instance_id] = bytearray()
        return instance


def _find(name: str, known: Mapping[str, T], kind: str) -> T:
    if name not in known:
        raise NotFoundError(kind, name)
    return known[name]
