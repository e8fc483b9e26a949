"""EC2 Query requests: from form parameters to typed requests, everything else refused with the parameter's name.

A parameter that this site does not act upon is an error, so that nobody believes it was heeded.
Source: docs/formats/ec2.md, "Requests".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import parse_qsl

from cernvm.core.errors import FormatError, InvalidInputError, NotFoundError

MAX_BODY_BYTES = 256 * 1024
MAX_PARAMETERS = 2000
MAX_USER_DATA_BYTES = 64 * 1024
MAX_COUNT = 1000
DEFAULT_TYPE = "m1.small"
DEFAULT_GROUP = "default"

INSTANCE_FILTERS = frozenset(
    {
        "client-token", "image-id", "instance-id", "instance-state-name", "instance-type",
        "key-name", "private-ip-address", "reservation-id",
    }
)  # fmt: skip
IMAGE_FILTERS = frozenset({"image-id", "name", "state"})

_ALWAYS = {"Action", "Version"}
_IDS = {"instance": re.compile(r"i-[0-9a-f]{8,17}"), "image": re.compile(r"ami-[0-9a-f]{8,17}")}
_TYPE = re.compile(r"[a-z0-9-]{1,32}\.[a-z0-9-]{1,32}")
_LABEL = re.compile(r"[\w .:/()#,@\[\]+=&;{}!$*-]{1,255}", re.ASCII)
_TOKEN = re.compile(r"[\x21-\x7e]{1,64}")
_NUMBERED = re.compile(r"[1-9]\d{0,3}")


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition of a listing: any of `values` (with `*` and `?`) matches."""

    name: str
    values: tuple[str, ...]

    def accepts(self, value: str) -> bool:
        """Whether a field's value passes."""
        return any(fnmatchcase(value, _only_wildcards(pattern)) for pattern in self.values)


@dataclass(frozen=True, slots=True)
class RunInstances:
    """Start between `min_count` and `max_count` instances of an image."""

    image_id: str
    min_count: int
    max_count: int
    instance_type: str = DEFAULT_TYPE
    key_name: str = ""
    groups: tuple[str, ...] = (DEFAULT_GROUP,)
    user_data: bytes = b""
    client_token: str = ""


@dataclass(frozen=True, slots=True)
class DescribeInstances:
    """List the caller's instances: the named ones, or all; `filters` must all accept."""

    instance_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class DescribeImages:
    """List the images: the named ones, or all; `filters` must all accept."""

    image_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class TerminateInstances:
    """End the named instances."""

    instance_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GetConsoleOutput:
    """Read the last part of an instance's console."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class DescribeRegions:
    """Name this region."""


Request = (
    RunInstances
    | DescribeInstances
    | DescribeImages
    | TerminateInstances
    | GetConsoleOutput
    | DescribeRegions
)


def parse_request(text: str) -> Request:
    """The typed request in form-encoded text (of a query or of a body).

    Errors: `FormatError` where it is no form, `NotFoundError` for an unknown action, `InvalidInputError` naming the
    parameter that is missing, wrong or not acted upon.
    """
    parameters = _Parameters(_parse_form(text))
    action = parameters.text("Action")
    read = _ACTIONS.get(action)
    if read is None:
        raise NotFoundError(
            "action", action[:80], advice=f"this site knows {', '.join(sorted(_ACTIONS))}"
        )
    request = read(parameters)
    parameters.refuse_the_rest()
    return request


def _parse_form(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError:
        raise FormatError(f"no form of at most {MAX_PARAMETERS} fields", where="request") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise FormatError("a parameter appears twice", where="request")
    return parameters


class _Parameters:
    """Form parameters that remember which of them were read."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values
        self._read = set(_ALWAYS)

    def text(self, name: str, default: str | None = None) -> str:
        """A parameter's text; without `default` it must be there."""
        self._read.add(name)
        value = self._values.get(name, default)
        if value is None:
            raise InvalidInputError(f"the parameter {name} is missing")
        return value

    def matching(self, name: str, form: re.Pattern[str], default: str | None = None) -> str:
        """A parameter's text in the given form; an absent one is the default as it stands."""
        value = self.text(name, default)
        if name in self._values and not form.fullmatch(value):
            raise InvalidInputError(f"{value[:80]!r} is no {name}")
        return value

    def number(self, name: str) -> int:
        """A count from 1 to `MAX_COUNT`."""
        value = self.text(name)
        if not _NUMBERED.fullmatch(value) or int(value) > MAX_COUNT:
            raise InvalidInputError(f"{name} is {value[:20]!r}, not a number from 1 to {MAX_COUNT}")
        return int(value)

    def numbered(self, prefix: str) -> tuple[str, ...]:
        """The list `prefix.1`, `prefix.2`, …, in the order of its numbers, which need not be without gaps."""
        found = {}
        for name, value in self._values.items():
            head, _, tail = name.rpartition(".")
            if head == prefix and _NUMBERED.fullmatch(tail):
                self._read.add(name)
                found[int(tail)] = value
        return tuple(found[number] for number in sorted(found))

    def identifiers(self, prefix: str, kind: str) -> tuple[str, ...]:
        """A list of ids of one kind, each in the right form, repeated ones once."""
        values = self.numbered(prefix)
        for value in values:
            _check_identifier(value, kind)
        return tuple(dict.fromkeys(values))

    def filters(self, known: frozenset[str]) -> tuple[Filter, ...]:
        """`Filter.N.Name` with `Filter.N.Value.M`, every name one of `known`."""
        numbers = {
            name.split(".")[1]
            for name in self._values
            if re.fullmatch(r"Filter\.[1-9]\d{0,3}\.(Name|Value\.\d+)", name)
        }
        return tuple(self._filter(number, known) for number in sorted(numbers, key=int))

    def _filter(self, number: str, known: frozenset[str]) -> Filter:
        name = self.text(f"Filter.{number}.Name")
        if name not in known:
            raise InvalidInputError(
                f"{name[:80]!r} is no filter here", advice=f"known are {', '.join(sorted(known))}"
            )
        return Filter(name, self.numbered(f"Filter.{number}.Value"))

    def refuse_the_rest(self) -> None:
        """Refuse parameters that nobody read."""
        if unread := sorted(set(self._values) - self._read):
            raise InvalidInputError(f"the parameter {unread[0][:80]} is not supported by this site")


def _run_instances(parameters: _Parameters) -> RunInstances:
    request = RunInstances(
        image_id=parameters.matching("ImageId", _IDS["image"]),
        min_count=parameters.number("MinCount"),
        max_count=parameters.number("MaxCount"),
        instance_type=parameters.matching("InstanceType", _TYPE, DEFAULT_TYPE),
        key_name=parameters.matching("KeyName", _LABEL, ""),
        groups=_groups(parameters),
        user_data=_user_data(parameters.text("UserData", "")),
        client_token=parameters.matching("ClientToken", _TOKEN, ""),
    )
    if request.min_count > request.max_count:
        raise InvalidInputError(
            f"MinCount {request.min_count} is more than MaxCount {request.max_count}"
        )
    return request


def _groups(parameters: _Parameters) -> tuple[str, ...]:
    groups = tuple(dict.fromkeys(parameters.numbered("SecurityGroup")))
    for group in groups:
        if not _LABEL.fullmatch(group):
            raise InvalidInputError(f"{group[:80]!r} is no SecurityGroup")
    return groups or (DEFAULT_GROUP,)


def _user_data(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInputError("UserData is not base64") from None
    if len(data) > MAX_USER_DATA_BYTES:
        raise InvalidInputError(
            f"UserData has {len(data)} bytes, allowed are {MAX_USER_DATA_BYTES}",
            advice="keep large files in a repository and name them in the user-data",
        )
    return data


def _describe_instances(parameters: _Parameters) -> DescribeInstances:
    return DescribeInstances(
        parameters.identifiers("InstanceId", "instance"), parameters.filters(INSTANCE_FILTERS)
    )


def _describe_images(parameters: _Parameters) -> DescribeImages:
    return DescribeImages(
        parameters.identifiers("ImageId", "image"), parameters.filters(IMAGE_FILTERS)
    )


def _terminate_instances(parameters: _Parameters) -> TerminateInstances:
    ids = parameters.identifiers("InstanceId", "instance")
    if not ids:
        raise InvalidInputError("the parameter InstanceId.1 is missing")
    return TerminateInstances(ids)


def _get_console_output(parameters: _Parameters) -> GetConsoleOutput:
    instance_id = parameters.text("InstanceId")
    _check_identifier(instance_id, "instance")
    return GetConsoleOutput(instance_id)


def _describe_regions(_parameters: _Parameters) -> DescribeRegions:
    return DescribeRegions()


_ACTIONS: dict[str, Callable[[_Parameters], Request]] = {
    "RunInstances": _run_instances,
    "DescribeInstances": _describe_instances,
    "DescribeImages": _describe_images,
    "TerminateInstances": _terminate_instances,
    "GetConsoleOutput": _get_console_output,
    "DescribeRegions": _describe_regions,
}


def _check_identifier(value: str, kind: str) -> None:
    if not _IDS[kind].fullmatch(value):
        raise InvalidInputError(f"{value[:80]!r} is no {kind} id")


def _only_wildcards(pattern: str) -> str:
    # EC2 knows * and ? only; fnmatch would also read [sets]
    return pattern.replace("[", "[[]")
