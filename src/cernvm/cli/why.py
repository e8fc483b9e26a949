"""`cvm why`: where a path in a mounted repository comes from, and why it cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json
from cernvm.core.errors import UnavailableError
from cernvm.core.units import format_bytes, format_seconds
from cernvm.fs.mount import ask, find_place

_DEADLINE_S = 1.5


@click.command(epilog="Example: cvm why /mnt/sft/bin/evgen")
@click.argument("path", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def why(edge: Edge, *, path: Path, as_json: bool) -> None:
    """Tell where PATH comes from, how its servers answered, and why it cannot be read.

    Asks the mount's process and touches neither the mount nor the network, so it answers while both are sick.
    """
    place = find_place(path, edge.home.run)
    if place.record.ended:
        raise UnavailableError(
            f"the mount at {place.record.point} has ended: {place.record.ended}",
            advice="mount it again once that is settled",
        )
    if not place.record.process.is_alive:
        raise UnavailableError(
            f"the process that served {place.record.point} is gone",
            advice=f"mount it again: cvm mount {place.record.repository} {place.record.point}",
        )
    answer = ask(place.record.socket, {"ask": "why", "path": place.inside}, deadline_s=_DEADLINE_S)
    if as_json:
        print_json({**answer, "mountpoint": str(place.record.point)})
        return
    for line in _lines(answer, place.record.point):
        click.echo(line)


def _lines(answer: dict[str, Any], point: Path) -> Iterator[str]:
    yield f"{answer['path']} of {answer['repository']}, mounted at {point}"
    yield f"  entry      {answer['entry']}"
    yield f"  revision   {answer['revision']}, {_age(answer)}"
    if answer["revision_error"]:
        yield f"             the last look for a newer one failed: {answer['revision_error']}"
    yield from _attempt_lines(answer["revision_attempts"])
    yield f"  hosts      {' '.join(answer['hosts'])} (proxy: {answer['proxy']})"
    for catalog in answer["catalogs"]:
        state = "in the cache" if catalog["cached"] else "not in the cache"
        yield f"  catalog    {catalog['mountpoint']} {catalog['digest']}, {state}"
    for item in answer["objects"]:
        state = "in the cache" if item["cached"] else "not in the cache"
        yield f"  object     {item['object']}, {format_bytes(item['size_bytes'])}, {state}"
        yield from _attempt_lines(item["attempts"])
    if not answer["failures"]:
        yield "  failures   none lately"
    for failure in answer["failures"]:
        yield f"  failure    {failure['at']}: {failure['error']}"
        if failure["advice"]:
            yield f"             → {failure['advice']}"


def _age(answer: dict[str, Any]) -> str:
    published, checked = answer["published_age_s"], answer["checked_age_s"]
    first = (
        "published at an unknown time" if published is None else f"{format_seconds(published)} old"
    )
    second = (
        "not confirmed by a server since the mount"
        if checked is None
        else f"confirmed by a server {format_seconds(checked)} ago"
    )
    return f"{first}, {second}"


def _attempt_lines(attempts: list[dict[str, Any]]) -> Iterator[str]:
    for attempt in attempts:
        by = "" if attempt["proxy"] == "DIRECT" else f" by {attempt['proxy']}"
        outcome = attempt["error"].removeprefix(f"{attempt['url']}: ") or "answered"
        yield f"             {attempt['url']}{by}: {outcome} ({format_seconds(attempt['took_s'])})"
