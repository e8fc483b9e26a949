"""The site's answers: each typed request of an owner, from the site's state, as an EC2 response.

An owner sees and ends only what is the owner's; anybody else's instance does not exist for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import assert_never

from anyio import to_thread

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import NotFoundError
from cernvm.site import xml
from cernvm.site.instance import BY_USER, Image, Instance
from cernvm.site.lifecycle import Lifecycle
from cernvm.site.query import (
    DescribeImages,
    DescribeInstances,
    DescribeRegions,
    Filter,
    GetConsoleOutput,
    Request,
    RunInstances,
    TerminateInstances,
)
from cernvm.site.sigv4 import Signer
from cernvm.site.state import Limits, SiteState

SITE_OWNER = "site"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the owner, and the signature of the request."""

    owner_id: str
    signer: Signer


@dataclass(frozen=True, slots=True)
class Actions:
    """What the site does for a caller. `endpoint` is where its API is found."""

    state: SiteState
    lifecycle: Lifecycle
    limits: Limits
    region: str
    endpoint: str
    clock: Clock = field(default_factory=SystemClock)

    async def answer(self, request: Request, caller: Caller, request_id: str) -> bytes:
        """The response to a request, as XML.

        Errors: those of `core.errors`; `problems` translates them.
        """
        match request:
            case RunInstances():
                return await self._run(request, caller, request_id)
            case DescribeInstances():
                return await to_thread.run_sync(
                    self._describe_instances, request, caller, request_id
                )
            case DescribeImages():
                return await to_thread.run_sync(self._describe_images, request, request_id)
            case TerminateInstances():
                return await self._terminate(request, caller, request_id)
            case GetConsoleOutput():
                return await self._console(request, caller, request_id)
            case DescribeRegions():
                return xml.regions_response(self.region, self.endpoint, request_id)
            case _:
                assert_never(request)

    async def _run(self, request: RunInstances, caller: Caller, request_id: str) -> bytes:
        if not request.client_token:
            # so that a captured request, sent again, starts nothing twice
            request = replace(request, client_token=f"signature-{caller.signer.signature[:48]}")
        instances = await to_thread.run_sync(
            self.state.reserve, caller.owner_id, request, self.limits
        )
        self.lifecycle.wake()
        return xml.run_response(instances, request_id)

    def _describe_instances(
        self, request: DescribeInstances, caller: Caller, request_id: str
    ) -> bytes:
        known = self.state.instances(owner_id=caller.owner_id)
        if request.instance_ids:
            by_id = {instance.instance_id: instance for instance in known}
            _check_known(request.instance_ids, by_id, "instance")
            known = [i for i in known if i.instance_id in set(request.instance_ids)]
        chosen = [i for i in known if _passes(request.filters, _instance_fields(i))]
        return xml.instances_response(chosen, request_id)

    def _describe_images(self, request: DescribeImages, request_id: str) -> bytes:
        known = self.state.images()
        if request.image_ids:
            _check_known(request.image_ids, {image.image_id for image, _ in known}, "image")
        chosen = [
            (image, offered)
            for image, offered in known
            if (image.image_id in request.image_ids if request.image_ids else offered)
            and _passes(request.filters, _image_fields(image, offered=offered))
        ]
        return xml.images_response(chosen, SITE_OWNER, request_id)

    async def _terminate(
        self, request: TerminateInstances, caller: Caller, request_id: str
    ) -> bytes:
        changes = await to_thread.run_sync(
            lambda: self.state.request_termination(
                request.instance_ids, owner_id=caller.owner_id, reason=BY_USER
            )
        )
        self.lifecycle.wake()
        return xml.terminate_response(changes, request_id)

    async def _console(self, request: GetConsoleOutput, caller: Caller, request_id: str) -> bytes:
        instance = await to_thread.run_sync(
            lambda: self.state.instance(request.instance_id, owner_id=caller.owner_id)
        )
        output = await self.lifecycle.console(instance)
        return xml.console_response(instance.instance_id, output, self.clock.now(), request_id)


_FIELD_OF_INSTANCE: dict[str, Callable[[Instance], str]] = {
    "client-token": lambda instance: instance.client_token,
    "image-id": lambda instance: instance.image_id,
    "instance-id": lambda instance: instance.instance_id,
    "instance-state-name": lambda instance: instance.state.value,
    "instance-type": lambda instance: instance.instance_type,
    "key-name": lambda instance: instance.key_name,
    "private-ip-address": lambda instance: str(instance.address),
    "reservation-id": lambda instance: instance.reservation_id,
}


def _instance_fields(instance: Instance) -> dict[str, str]:
    return {name: read(instance) for name, read in _FIELD_OF_INSTANCE.items()}


def _image_fields(image: Image, *, offered: bool) -> dict[str, str]:
    return {
        "image-id": image.image_id,
        "name": image.name,
        "state": "available" if offered else "deregistered",
    }


def _passes(filters: Iterable[Filter], fields: dict[str, str]) -> bool:
    return all(condition.accepts(fields[condition.name]) for condition in filters)


def _check_known(asked: Iterable[str], known: Iterable[str], kind: str) -> None:
    if unknown := [name for name in asked if name not in known]:
        raise NotFoundError(kind, unknown[0])
