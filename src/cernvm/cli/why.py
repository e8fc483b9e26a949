"""`cvm why`: where a path in a mounted repository comes from, and why it cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json
from cernvm.cli.paths import PATH
from cernvm.core.errors import DeniedError, UnavailableError, UserError
from cernvm.core.units import format_bytes, format_seconds
from cernvm.fs.mount import Place, ask, find_place
from cernvm.fs.mount.outside import Outside, look_from_outside

_DEADLINE_S = 1.2


@click.command(epilog="Example: cvm why /mnt/sft/bin/evgen")
@click.argument("path", type=PATH)
@json_option
@click.pass_obj
def why(edge: Edge, *, path: Path, as_json: bool) -> None:
    """Tell where PATH comes from, how its servers answered, and why it cannot be read.

    Asks the mount's process and touches neither the mount nor the network, so it answers while both are sick. Of a
    mount whose process says nothing it tells what the kernel and the log know.
    """
    place = find_place(path, edge.home.run)
    record = place.record
    outside = look_from_outside(record, edge.home.log / f"mount-{record.repository}.log")
    answer, error = _ask(place, outside)
    seen = {"mountpoint": str(record.point), "outside": asdict(outside)}
    if as_json:
        state = "serving" if error is None else error.what
        print_json({**answer, **seen, "repository": record.repository, "state": state})
    else:
        for line in _lines(answer, record.point) if answer else _dark_lines(place):
            click.echo(line)
        for line in _outside_lines(outside, is_sick=error is not None):
            click.echo(line)
    if error is not None:
        raise error


def _ask(
    place: Place, outside: Outside
) -> tuple[dict[str, Any], UnavailableError | DeniedError | None]:
    """The process's own answer, or why there is none."""
    record = place.record
    again = f"mount it again: cvm mount {record.repository} {record.point}"
    if record.ended:
        ended = f"the mount at {record.point} has ended: {record.ended}"
        return {}, UnavailableError(ended, advice="mount it again once that is settled")
    sick = UnavailableError(f"the mount at {record.point} {outside.verdict}", advice=again)
    if not record.process.is_alive:
        if record.is_kept:
            sick.advice = "wait some seconds and ask again"
        return {}, sick
    if not os.access(record.socket, os.W_OK) and record.socket.exists():
        advice = "ask as the user who mounted it, or as root"
        return {}, DeniedError(f"the mount at {record.point} is another user's", advice=advice)
    try:
        question = {"ask": "why", "path": place.inside}
        return ask(record.socket, question, deadline_s=_DEADLINE_S), None
    except (UnavailableError, UserError) as error:
        sick.advice = f"{error.what}; to end it: cvm umount --force {record.point}"
        return {}, sick


def _dark_lines(place: Place) -> Iterator[str]:
    record = place.record
    yield f"{place.inside} of {record.repository}, mounted at {record.point}"


def _outside_lines(outside: Outside, *, is_sick: bool) -> Iterator[str]:
    process, holder = outside.process, outside.holder
    waits = f" in {process.waits_in}" if process.waits_in and is_sick else ""
    kept = f", holder {holder.pid} {holder.state}" if holder else ", no holder"
    yield f"  process    {process.pid} {process.state}{waits}{kept}"
    if outside.unanswered is not None:
        yield f"  kernel     waits for {outside.unanswered} answers"
    if is_sick:
        for line in outside.log:
            yield f"  log        {line}"


def _lines(answer: dict[str, Any], point: Path) -> Iterator[str]:
    yield f"{answer['path']} of {answer['repository']}, mounted at {point}"
    yield f"  entry      {answer['entry']}"
    yield f"  revision   {answer['revision']}, {_age(answer)}"
    if answer["revision_error"]:
        yield f"             the last look for a newer one failed: {answer['revision_error']}"
    yield from _attempt_lines(answer["revision_attempts"])
    yield f"  whitelist  {_expiry(answer['whitelist_s'])}"
    yield f"  hosts      {' '.join(answer['hosts'])} (proxy: {answer['proxy']})"
    yield f"  next       {', then '.join(_route(route) for route in answer['next'])}"
    yield f"  cache      {_cache(answer['cache'])}"
    yield f"  ahead      {_ahead(answer['ahead'])}"
    for catalog in answer["catalogs"]:
        state = "in the cache" if catalog["cached"] else "not in the cache"
        yield f"  catalog    {catalog['mountpoint']} {catalog['digest']}, {state}"
    for item in answer["objects"]:
        size = format_bytes(item["size_bytes"]) if item["size_bytes"] else "of unknown size"
        yield f"  object     {item['object']}, {size}, {_whereabouts(item)}"
        yield from _attempt_lines(item["attempts"])
    if answer["waiting"]:
        longest = format_seconds(answer["longest_s"])
        yield f"  readers    {answer['waiting']} requests wait, the longest for {longest}"
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
        "from the cache: not confirmed by a server since the mount"
        if checked is None
        else f"confirmed by a server {format_seconds(checked)} ago"
    )
    return f"{first}, {second}"


def _expiry(left_s: float | None) -> str:
    if left_s is None:
        return "not seen since the mount"
    if left_s < 0:
        return f"expired {format_seconds(-left_s)} ago: no newer revision is believed"
    return f"expires in {format_seconds(left_s)}"


def _route(route: dict[str, str]) -> str:
    by = "" if route["proxy"] == "DIRECT" else f" by {route['proxy']}"
    return f"{route['host']}{by}"


def _cache(cache: dict[str, int]) -> str:
    used, pinned = format_bytes(cache["used_bytes"]), format_bytes(cache["pinned_bytes"])
    return f"{used} of {format_bytes(cache['quota_bytes'])}, {pinned} pinned"


def _ahead(ahead: dict[str, Any]) -> str:
    ways = ahead["ways"].values()
    came, used = (sum(way[key] for way in ways) for key in ("fetched", "used"))
    waiting = format_bytes(ahead["waiting_bytes"])
    return f"{came} objects came before anybody asked, {used} were read; {waiting} wait"


def _whereabouts(item: dict[str, Any]) -> str:
    if item["cached"]:
        return "in the cache"
    return "on its way" if item["on_its_way"] else "not in the cache"


def _attempt_lines(attempts: list[dict[str, Any]]) -> Iterator[str]:
    for attempt in attempts:
        by = "" if attempt["proxy"] == "DIRECT" else f" by {attempt['proxy']}"
        outcome = attempt["error"].removeprefix(f"{attempt['url']}: ") or "answered"
        yield f"             {attempt['url']}{by}: {outcome} ({format_seconds(attempt['took_s'])})"
