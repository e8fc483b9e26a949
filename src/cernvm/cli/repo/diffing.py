"""`cvm repo diff`."""

from __future__ import annotations

import json

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, printable
from cernvm.cli.repo.places import find_root, open_place, shown_path
from cernvm.core.units import format_bytes
from cernvm.fs.format.history import TRUNK_PREVIOUS
from cernvm.fs.publish.publishing import parse_path
from cernvm.fs.survey.database import Item
from cernvm.fs.survey.difference import Change, ChangeKind, Totals, diff

_SIGNS = {
    ChangeKind.ADDED: "+",
    ChangeKind.REMOVED: "-",
    ChangeKind.MODIFIED: "M",
    ChangeKind.METADATA: "m",
}


@click.command("diff", epilog="Example: cvm repo diff sft.cernvm.test v1 v2 --at /lib")
@click.argument("name", metavar="NAME|FOLDER")
@click.argument("before", default="", metavar="[FROM")
@click.argument("after", default="", metavar="[TO]]")
@click.option("--at", default="/", metavar="PATH", help="Only there and below.")
@click.option("--totals", "only_totals", is_flag=True, help="Only count.")
@json_option
@click.pass_obj
def diff_(
    edge: Edge,
    *,
    name: str,
    before: str,
    after: str,
    at: str,
    only_totals: bool,
    as_json: bool,
) -> None:
    """Show which paths differ between two revisions of repository NAME.

    FROM and TO are tags, numbers of tagged revisions or root hashes; without them the last revision is compared with
    the one before. Each line has a sign (+ came, - went, M other content, m other attributes), the bytes that came and
    the path; with --json each line is one object, and the last one the totals.
    """
    place = open_place(edge.home, name)
    old = find_root(place, before or TRUNK_PREVIOUS)
    new = find_root(place, after)
    under = parse_path(at)
    totals = Totals()
    for change in diff(old.root_catalog, new.root_catalog, place.store, under):
        totals.add(change)
        if as_json and not only_totals:
            click.echo(json.dumps(change_row(change), ensure_ascii=False))
        elif not only_totals:
            click.echo(shown_line(change))
    if as_json:
        click.echo(json.dumps({"totals": totals_row(totals)}))
    else:
        click.echo(shown_totals(totals))


def change_row(change: Change) -> dict[str, object]:
    """A change as `--json` shows it."""
    return {
        "path": shown_path(change.path),
        "kind": change.kind.value,
        "bytes": change.size_bytes,
        "before": _side(change.before),
        "after": _side(change.after),
    }


def totals_row(totals: Totals) -> dict[str, object]:
    """Totals as `--json` shows them."""
    return {name: getattr(totals, name) for name in totals.__slots__}


def shown_totals(totals: Totals) -> str:
    """Totals as people read them."""
    return (
        f"{totals.added} added, {totals.removed} removed, {totals.modified} modified,"
        f" {totals.metadata} with other attributes;"
        f" {format_bytes(totals.added_bytes)} came, {format_bytes(totals.removed_bytes)} went"
    )


def shown_line(change: Change) -> str:
    """A change as people read it."""
    size = f"{change.size_bytes:+d}" if change.size_bytes else ""
    item = change.after or change.before
    slash = "/" if item is not None and item.entry.is_directory and change.path else ""
    return f"{_SIGNS[change.kind]} {size:>12}  {printable(shown_path(change.path))}{slash}"


def _side(item: Item | None) -> dict[str, object] | None:
    if item is None:
        return None
    entry = item.entry
    return {
        "kind": entry.kind.name.lower(),
        "mode": f"{entry.mode:o}",
        "size": entry.size,
        "mtime": entry.mtime_s,
        "uid": entry.uid,
        "gid": entry.gid,
        "hash": None if entry.digest is None else str(entry.digest),
        "symlink": entry.symlink.decode("utf-8", "replace") or None,
        "chunks": len(item.chunks),
    }
