"""`cvm repo revisions`."""

from __future__ import annotations

import dataclasses

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_rows
from cernvm.cli.repo.places import open_place
from cernvm.core.units import format_bytes
from cernvm.fs.survey.difference import Totals
from cernvm.fs.survey.revisions import StoredRevision, changes_of, list_revisions


@click.command(epilog="Example: cvm repo revisions sft.cernvm.test --changes --last 10")
@click.argument("name", metavar="NAME|FOLDER")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only so many, the newest.")
@click.option("--changes", is_flag=True, help="Count what each changed; takes longer.")
@json_option
@click.pass_obj
def revisions(edge: Edge, *, name: str, last: int | None, changes: bool, as_json: bool) -> None:
    """List the revisions that were not collected, newest first, with what they hold."""
    place = open_place(edge.home, name)
    found = list_revisions(place.store, place.manifest)
    rows = []
    for one in found[:last]:
        totals = changes_of(place.store, one, found) if changes else None
        rows.append(_row(one, totals) if as_json else _line(one, totals))
    columns = ["revision", "made_at", "entries", "content"]
    if changes:
        columns += ["added", "removed", "modified", "came", "went"]
    print_rows(rows, columns=[*columns, "tags"], as_json=as_json)


def _row(one: StoredRevision, totals: Totals | None) -> dict[str, object]:
    return {
        "revision": one.number,
        "made_at": f"{one.made_at:%Y-%m-%dT%H:%M:%SZ}",
        "root_hash": str(one.root_catalog),
        "entries": one.total.entries,
        "counters": dataclasses.asdict(one.total),
        "changes": None if totals is None else dataclasses.asdict(totals),
        "tags": list(one.tags),
    }


def _line(one: StoredRevision, totals: Totals | None) -> dict[str, object]:
    row: dict[str, object] = {
        "revision": one.number,
        "made_at": f"{one.made_at:%Y-%m-%dT%H:%M:%SZ}",
        "entries": one.total.entries,
        "content": format_bytes(one.total.file_size),
        "tags": ", ".join(one.tags),
    }
    if totals is not None:
        row |= {
            "added": totals.added,
            "removed": totals.removed,
            "modified": totals.modified + totals.metadata,
            "came": format_bytes(totals.added_bytes),
            "went": format_bytes(totals.removed_bytes),
        }
    return row
