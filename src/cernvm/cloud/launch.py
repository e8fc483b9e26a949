"""Starting instances from templates, and following them: what `cvm run` does with a cloud.

Flow: `parse_templates` and `plan_launch` turn words and templates into requests (pure); `find_image` names the image;
`launch` makes the requests, telling what was started even when a later one fails; `follow` waits for a state.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

import anyio

from cernvm.cloud.port import TERMINATED, Cloud, Instance, RunRequest
from cernvm.context import render, variables_of
from cernvm.context.finding import did_you_mean
from cernvm.core.errors import (
    CvmError,
    DeadlineError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)

INDEX = "INDEX"
INSTANCES_MAX = 1000
POLL_S = 0.5

_COUNT = re.compile(r"([1-9]\d{0,3})(?:-([1-9]\d{0,3}))?", re.ASCII)
_NUMBER = re.compile(r"[1-9]\d{0,3}", re.ASCII)
_AMI = re.compile(r"ami-[0-9a-f]{8,17}")
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class TemplateOrder:
    """So many instances from one template."""

    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Launched:
    """What came of a launch: every instance that was started, and the error that ended it early, if any."""

    instances: tuple[Instance, ...]
    error: CvmError | None = None


def parse_count(text: str) -> tuple[int, int]:
    """The least and the most instances in `MIN` or `MIN-MAX`.

    >>> parse_count("2-5")
    (2, 5)
    """
    match = _COUNT.fullmatch(text)
    if match is None:
        raise InvalidInputError(
            f"{text!r} is no number of instances",
            advice="write 3, or 2-5 for at least 2, at best 5",
        )
    return int(match[1]), int(match[2] or match[1])


def parse_templates(text: str) -> tuple[TemplateOrder, ...]:
    """The orders in `NAME[:COUNT],NAME2[:COUNT]…`.

    >>> parse_templates("head,worker:10")
    (TemplateOrder(name='head', count=1), TemplateOrder(name='worker', count=10))
    """
    orders = []
    for part in text.split(","):
        name, colon, count = part.partition(":")
        if not name.strip() or (colon and not _NUMBER.fullmatch(count)):
            raise InvalidInputError(
                f"{part!r} is no template order",
                advice="write NAME or NAME:COUNT, joined by commas",
            )
        orders.append(TemplateOrder(name.strip(), int(count or 1)))
    return tuple(orders)


def parse_variables(assignments: Sequence[str]) -> dict[str, str]:
    """Template variables from `KEY=VALUE` words.

    >>> parse_variables(["PROXY=http://squid:3128"])
    {'PROXY': 'http://squid:3128'}
    """
    variables = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not _VARIABLE.fullmatch(key):
            raise InvalidInputError(f"{text[:80]!r} is no variable", advice="write KEY=VALUE")
        variables[key] = value
    return variables


def plan_launch(
    base: RunRequest,
    templates: Sequence[tuple[TemplateOrder, str]],
    variables: Mapping[str, str],
) -> list[RunRequest]:
    """The requests that start what was ordered; `templates` come with their text.

    A template that tells its instances apart by INDEX, counted from 1 in each template, needs a request per instance;
    any other is one reservation. Every request gets a client token of its own, derived from `base`'s.
    Errors: `ContextFormatError` of the template; `InvalidInputError` for a variable that no template has.
    """
    _check_variables(variables, templates)
    planned = []
    for order, text in templates:
        if order.count > INSTANCES_MAX:
            raise InvalidInputError(
                f"{order.count} instances are more than {INSTANCES_MAX} at once"
            )
        single = INDEX in variables_of(text)
        for index in range(1, order.count + 1 if single else 2):
            data = render(text, {INDEX: str(index), **variables}, where=order.name)
            count = 1 if single else order.count
            planned.append(replace(base, min_count=count, max_count=count, user_data=data.encode()))
    if not templates:
        planned = [base]
    token = base.client_token or uuid.uuid4().hex
    if len(planned) == 1:
        return [replace(planned[0], client_token=token)]
    return [
        replace(request, client_token=f"{token}-{number}")
        for number, request in enumerate(planned, 1)
    ]


def _check_variables(
    variables: Mapping[str, str], templates: Sequence[tuple[TemplateOrder, str]]
) -> None:
    known = {INDEX}.union(*(variables_of(text) for _, text in templates))
    for name in variables:
        if name not in known:
            raise InvalidInputError(
                f"{', '.join(order.name for order, _ in templates)} has no variable {name}",
                advice=did_you_mean(name, known) or f"there are {', '.join(sorted(known))}",
            )


async def find_image(cloud: Cloud, name: str) -> str:
    """The id of an image given by id or by name.

    Errors: `NotFoundError`; `InvalidInputError` where several have that name.
    """
    if _AMI.fullmatch(name):
        return name
    images = await cloud.images()
    found = [image.image_id for image in images if image.name == name]
    if not found:
        offered = ", ".join(sorted(image.name for image in images)[:10]) or "none"
        raise NotFoundError("image", name, advice=f"this cloud offers: {offered}")
    if len(found) > 1:
        raise InvalidInputError(
            f"{len(found)} images are called {name}", advice=f"choose one by id: {', '.join(found)}"
        )
    return found[0]


async def launch(cloud: Cloud, requests: Sequence[RunRequest]) -> Launched:
    """Make the requests in order, until one fails."""
    started: list[Instance] = []
    for request in requests:
        try:
            started += await cloud.run(request)
        except CvmError as error:
            return Launched(tuple(started), error)
    return Launched(tuple(started))


async def follow(
    cloud: Cloud, instance_ids: Sequence[str], *, state: str, deadline_s: float
) -> AsyncIterator[Instance]:
    """Each instance whenever its state has changed, until all are in `state`.

    Errors: `UnavailableError` for one that ended on the way, `DeadlineError`.
    """
    end = time.monotonic() + deadline_s
    last: dict[str, str] = {}
    while True:
        for instance in await cloud.instances(instance_ids):
            if last.get(instance.instance_id) != instance.state:
                last[instance.instance_id] = instance.state
                yield instance
            if instance.state == TERMINATED != state:
                raise UnavailableError(
                    f"{instance.instance_id} ended: {instance.reason or 'no reason given'}",
                    advice=f"cvm console {instance.instance_id} shows its last words",
                )
        if all(reached == state for reached in last.values()):
            return
        if time.monotonic() > end:
            late = sorted(name for name, reached in last.items() if reached != state)
            raise DeadlineError(f"waiting for {', '.join(late)} to be {state}", after_s=deadline_s)
        await anyio.sleep(POLL_S)
