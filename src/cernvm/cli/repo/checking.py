"""`cvm repo check`."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json, printable
from cernvm.cli.repo.places import open_place, replica_state, shown_path, telling
from cernvm.core.clock import SystemClock
from cernvm.core.errors import ObjectFormatError
from cernvm.core.units import format_seconds
from cernvm.fs.publish.publishing import parse_path
from cernvm.fs.replicate.state import format_date, note_status
from cernvm.fs.survey.check import CheckOptions, Finding, Summary, check

_MOST_KEPT = 100_000  # findings, for --json


@click.command("check", epilog="Example: cvm repo check sft.cernvm.test --data")
@click.argument("name", metavar="NAME|FOLDER|LOCATION")
@click.option("--data", is_flag=True, help="Also read every object: its digest and its size.")
@click.option("--at", default="/", metavar="PATH", help="Only what is on the way there and below.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Also this revision; repeatable.")
@click.option("--all-tags", is_flag=True, help="Also every tagged revision.")
@click.option(
    "--everything",
    is_flag=True,
    help="Also every revision that was not collected; counts what nothing refers to.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Public master key, for a store that this machine does not know.",
)
@json_option
@click.pass_obj
def check_(
    edge: Edge,
    *,
    name: str,
    data: bool,
    at: str,
    tags: tuple[str, ...],
    all_tags: bool,
    everything: bool,
    keys: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Tell what is wrong with repository or replica NAME, or with what lies in a store.

    Structure and signatures, and whether every object is there. Ends with status 52 when something is wrong.
    """
    clock = SystemClock()
    started = clock.monotonic()
    place = open_place(edge.home, name, keys=keys)
    options = CheckOptions(
        with_data=data,
        at=parse_path(at),
        tags=tags,
        all_tags=all_tags,
        everything=everything,
    )
    state = replica_state(place)
    if state is not None and state.paths:
        shown = ", ".join(state.paths)
        click.echo(f"cvm: {name} is a replica of {shown} only; all else will be missing", err=True)
    summary = Summary()
    kept: list[Finding] = []
    with telling("checking") as step:
        findings = check(
            place.store,
            name=place.name,
            master_keys=place.master_keys,
            now=clock.now(),
            options=options,
            summary=summary,
            on_step=step,
        )
        with closing(findings):
            for finding in findings:
                if not as_json:
                    click.echo(_line(finding))
                elif len(kept) < _MOST_KEPT:
                    kept.append(finding)
    took_s = clock.monotonic() - started
    if state is not None:
        status = "failed" if summary.problems else "succeeded"
        date = format_date(clock.now())
        note_status(place.store, {"last_check": date, "check_status": status})
    if as_json:
        row = dataclasses.asdict(summary) | {"name": place.name, "took_s": round(took_s, 3)}
        print_json(row | {"findings": [_row(finding) for finding in kept]})
    else:
        click.echo(
            f"{summary.revisions} revisions, {summary.catalogs} catalogs, {summary.entries} entries,"
            f" {summary.objects} objects checked in {format_seconds(took_s)}:"
            f" {summary.problems or 'no'} problems"
        )
    if summary.problems:
        raise ObjectFormatError(
            f"{summary.problems} problems in {place.name}",
            advice="publish the named paths again, or copy the named objects from a replica",
        )


def _line(finding: Finding) -> str:
    where = [] if finding.path is None else [shown_path(finding.path)]
    if finding.place:
        where.append(f"({finding.place})" if where else finding.place)
    label = "note" if finding.is_note else "wrong"
    return printable(f"{label}: {' '.join(where)}{': ' if where else ''}{finding.what}")


def _row(finding: Finding) -> dict[str, object]:
    return {
        "what": finding.what,
        "path": None if finding.path is None else shown_path(finding.path),
        "object": finding.place,
        "is_note": finding.is_note,
    }
