"""`cvm run`, `ls`, `terminate`, `console`: instances of the chosen region."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_rows
from cernvm.cloud.launch import (
    TemplateOrder,
    find_image,
    follow,
    launch,
    parse_count,
    parse_templates,
    parse_variables,
    plan_launch,
)
from cernvm.cloud.port import RUNNING, TERMINATED, Cloud, Image, Instance, RunRequest
from cernvm.cloud.region import find_region
from cernvm.context import find_template, read_context, search_path
from cernvm.context.finding import Severity
from cernvm.context.library import read_template
from cernvm.core.errors import CvmError, InvalidInputError

RUN_COLUMNS = ["rid", "owner", "group", "id", "ami", "dns", "state", "key", "index", "type"]
LS_COLUMNS = ["id", "rid", "owner", "group", "dns", "state", "key", "type"]
IMAGE_COLUMNS = ["ami", "location", "state", "visibility", "arch", "type"]
MAX_VALUE_BYTES = 64 * 1024  # of one variable read from a file
FOLLOW_POLL_S = 1.0

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")

T = TypeVar("T")

wait_option = click.option("--wait", is_flag=True, help="Return when it is done.")
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long --wait waits.",
)


@click.command(epilog="Example: cvm run cernvm-devel --template evgen:2 PROXY=DIRECT --wait")
@click.argument("ami")
@click.argument("variables", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("-n", "--count", metavar="MIN[-MAX]", help="How many instances (default: 1).")
@click.option(
    "-t", "--type", "instance_type", default="", help="Their type (default: the cloud's)."
)
@click.option("-k", "--key", "key_name", default="", help="Name of a key pair.")
@click.option("-g", "--group", "groups", multiple=True, help="Security group; may be repeated.")
@click.option("-d", "--user-data", help="User-data as text.")
@click.option(
    "-f",
    "--user-data-file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True, exists=True),
    help="File with the user-data; - is standard input.",
)
@click.option(
    "-T",
    "--template",
    metavar="NAME[:COUNT][,...]",
    help="Render user-data from templates, so many instances of each (see `cvm context ls`).",
)
@click.option(
    "--client-token", default="", help="Makes repeating this command start nothing twice."
)
@wait_option
@timeout_option
@json_option
@click.pass_obj
def run(
    edge: Edge,
    *,
    ami: str,
    variables: Sequence[str],
    count: str | None,
    instance_type: str,
    key_name: str,
    groups: Sequence[str],
    user_data: str | None,
    user_data_file: Path | None,
    template: str | None,
    client_token: str,
    wait: bool,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Start contextualized instances of AMI, an image's id or name.

    KEY=VALUE are the variables of the templates; INDEX counts each template's instances from 1. KEY=@FILE takes the
    value from a file: a secret is no argument, since everybody on the machine can read those.
    """
    if sum(given is not None for given in (user_data, user_data_file, template)) > 1:
        raise click.UsageError("choose one of --user-data, --user-data-file and --template")
    if template is None and variables:
        raise click.UsageError(f"{variables[0]!r}: variables need --template")
    if template is not None and count is not None:
        raise click.UsageError("with --template, write the count behind the name: NAME:COUNT")
    least, most = parse_count(count or "1")
    templates = _read_templates(edge, template)
    values = _read_values(parse_variables(variables))
    data = _read_user_data(user_data, user_data_file)

    async def start(cloud: Cloud) -> tuple[list[Instance], CvmError | None]:
        base = RunRequest(
            image_id=await find_image(cloud, ami),
            min_count=least,
            max_count=most,
            instance_type=instance_type,
            key_name=key_name,
            groups=tuple(groups),
            user_data=data,
            client_token=client_token,
        )
        requests = plan_launch(base, templates, values)
        _warn_of_contexts(request.user_data for request in requests)
        done = await launch(cloud, requests)
        instances, error = list(done.instances), done.error
        if wait and instances:
            try:
                instances = await _follow(cloud, instances, state=RUNNING, timeout_s=timeout_s)
            except CvmError as late:
                error = error or late
        return instances, error

    instances, error = _ask(edge, start)
    print_rows(
        map(_instance_row, instances), columns=RUN_COLUMNS, as_json=as_json, headers=edge.headers
    )
    if error is not None:
        raise _with_survivors(error, instances)


def _warn_of_contexts(documents: Iterable[bytes]) -> None:
    """Say on stderr what an instance would refuse or nobody read; only a warning, as other images read other kinds."""
    remarks = (
        str(finding)
        for document in dict.fromkeys(documents)
        if document
        for finding in read_context(document).findings
        if finding.severity is not Severity.NOTE
    )
    for remark in dict.fromkeys(remarks):
        click.echo(f"cvm: user-data, {remark}", err=True)


@click.command(epilog="Example: cvm --region local -H ls     cvm -H ls -i")
@click.argument("ids", nargs=-1)
@click.option("-i", "--images", is_flag=True, help="List images instead.")
@click.option("-a", "--all", "show_all", is_flag=True, help="Show terminated instances, too.")
@json_option
@click.pass_obj
def ls(edge: Edge, *, ids: Sequence[str], images: bool, show_all: bool, as_json: bool) -> None:
    """List your instances, or the cloud's images with -i; only IDS, if given."""
    if images:
        found = _ask(edge, lambda cloud: cloud.images(ids))
        rows, columns = [_image_row(image) for image in found], IMAGE_COLUMNS
    else:
        instances = _ask(edge, lambda cloud: cloud.instances(ids))
        shown = [i for i in instances if ids or show_all or i.state != TERMINATED]
        rows, columns = [_instance_row(instance) for instance in shown], LS_COLUMNS
    print_rows(rows, columns=columns, as_json=as_json, headers=edge.headers)


@click.command(epilog="Example: cvm terminate i-4f1c20aa --wait")
@click.argument("ids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All your instances in this region.")
@wait_option
@timeout_option
@json_option
@click.pass_obj
def terminate(
    edge: Edge, *, ids: Sequence[str], every: bool, wait: bool, timeout_s: float, as_json: bool
) -> None:
    """End instances, by id."""
    if bool(ids) == every:
        raise click.UsageError("name instances, or say --all")

    async def end(cloud: Cloud) -> list[dict[str, object]]:
        known = await cloud.instances() if every else []
        names = list(ids) or [i.instance_id for i in known if i.state != TERMINATED]
        states = dict(await cloud.terminate(names))
        if wait and names:
            async for instance in follow(cloud, names, state=TERMINATED, deadline_s=timeout_s):
                states[instance.instance_id] = instance.state
        return [{"id": name, "state": state} for name, state in states.items()]

    print_rows(_ask(edge, end), columns=["id", "state"], as_json=as_json, headers=edge.headers)


@click.command(epilog="Example: cvm console i-4f1c20aa --follow")
@click.argument("instance_id", metavar="ID")
@click.option("--follow", "-f", "keep_on", is_flag=True, help="Go on until the instance ends.")
@click.pass_obj
def console(edge: Edge, *, instance_id: str, keep_on: bool) -> None:
    """Print the last part of an instance's console."""

    async def show(cloud: Cloud) -> None:
        seen = b""
        while True:
            # asked for before the console, so that its very last words are not missed
            (instance,) = await cloud.instances([instance_id])
            output = await cloud.console(instance_id)
            sys.stdout.buffer.write(_for_terminal(new_part(seen, output)))
            sys.stdout.flush()
            if not keep_on or instance.state == TERMINATED:
                return
            seen = output
            await anyio.sleep(FOLLOW_POLL_S)

    _ask(edge, show)


def new_part(seen: bytes, output: bytes) -> bytes:
    """What a console shows beyond what was `seen`; both are the last part of the same growing text.

    >>> new_part(b"abcd", b"cdef")
    b'ef'
    """
    for cut in range(len(seen) + 1):
        if output.startswith(seen[cut:]):
            return output[len(seen) - cut :]
    return output


def _for_terminal(output: bytes) -> bytes:
    """What an instance wrote must not command the terminal of whoever reads it; a pipe gets it as it is."""
    return _CONTROL.sub(b"?", output) if sys.stdout.isatty() else output


def _ask(edge: Edge, question: Callable[[Cloud], Awaitable[T]]) -> T:
    from cernvm.cloud import open_cloud  # noqa: PLC0415  # the SDK is slow to import

    cloud = open_cloud(find_region(edge.region, home=edge.home, environment=os.environ))

    async def ask() -> T:
        return await question(cloud)

    return anyio.run(ask)


def _read_templates(edge: Edge, text: str | None) -> list[tuple[TemplateOrder, str]]:
    if text is None:
        return []
    path = search_path(os.environ, edge.home)
    return [
        (order, read_template(find_template(order.name, path))) for order in parse_templates(text)
    ]


def _read_values(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables, each `@FILE` replaced by that file's text without the line's end."""
    values = dict(variables)
    for key, value in variables.items():
        if value.startswith("@"):
            with Path(value[1:]).open("rb") as file:
                raw = file.read(MAX_VALUE_BYTES + 1)
            if len(raw) > MAX_VALUE_BYTES:
                raise InvalidInputError(f"{value[1:]}: larger than {MAX_VALUE_BYTES} bytes")
            values[key] = raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
    return values


def _read_user_data(text: str | None, path: Path | None) -> bytes:
    if path is None:
        return (text or "").encode()
    data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    if not data:
        raise InvalidInputError(f"{path} is empty")
    return data


async def _follow(
    cloud: Cloud, instances: Sequence[Instance], *, state: str, timeout_s: float
) -> list[Instance]:
    latest = {instance.instance_id: instance for instance in instances}
    async for instance in follow(cloud, list(latest), state=state, deadline_s=timeout_s):
        latest[instance.instance_id] = instance
        click.echo(f"{instance.instance_id}  {instance.address}  {instance.state}", err=True)
    return list(latest.values())


def _with_survivors(error: CvmError, instances: Sequence[Instance]) -> CvmError:
    names = " ".join(instance.instance_id for instance in instances)
    if names:
        error.advice = (
            f"{error.advice}{'; ' if error.advice else ''}{len(instances)} were started: "
            f"`cvm terminate {names}` ends them"
        )
    return error


def _instance_row(instance: Instance) -> dict[str, object]:
    return {
        "id": instance.instance_id,
        "rid": instance.reservation_id,
        "owner": instance.owner,
        "group": ",".join(instance.groups),
        "ami": instance.image_id,
        "dns": instance.dns,
        "address": instance.address,
        "state": instance.state,
        "key": instance.key_name,
        "index": instance.launch_index,
        "type": instance.instance_type,
        "launched_at": instance.launched_at.isoformat(),
        "zone": instance.zone,
        "reason": instance.reason,
    }


def _image_row(image: Image) -> dict[str, object]:
    return {
        "ami": image.image_id,
        "name": image.name,
        "location": image.location,
        "state": image.state,
        "visibility": "Public" if image.is_public else "Private",
        "arch": image.architecture,
        "type": image.kind,
    }
