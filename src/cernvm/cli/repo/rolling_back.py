"""`cvm repo rollback`."""

from __future__ import annotations

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json
from cernvm.cli.repo.choices import (
    dry_run_option,
    message_option,
    tag_option,
    wait_option,
)
from cernvm.cli.repo.diffing import shown_totals, totals_row
from cernvm.cli.repo.following import tell_published
from cernvm.cli.repo.places import find_root, open_place
from cernvm.cli.repo.progress import shown_progress
from cernvm.core.errors import DeniedError
from cernvm.fs.format.history import TRUNK_PREVIOUS
from cernvm.fs.publish.publishing import parse_path
from cernvm.fs.publish.rolling_back import Rollback, roll_back
from cernvm.fs.survey.difference import Totals, diff


@click.command(epilog="Example: cvm repo rollback sft.cernvm.test --to v1 --at /lib")
@click.argument("name")
@click.option(
    "--to",
    default=TRUNK_PREVIOUS,
    show_default=True,
    metavar="REVISION",
    help="A tag, number or root hash.",
)
@click.option("--at", default="/", show_default=True, metavar="PATH", help="Only there and below.")
@click.option("--drop-tags", is_flag=True, help="Forget the tags of all later revisions.")
@tag_option
@message_option
@dry_run_option
@wait_option(60.0)
@json_option
@click.pass_obj
def rollback(
    edge: Edge,
    *,
    name: str,
    to: str,
    at: str,
    drop_tags: bool,
    tag: str,
    message: str,
    dry_run: bool,
    wait_s: float,
    as_json: bool,
) -> None:
    """Publish again what an older revision of repository NAME was.

    It gets a new number, so that clients follow. What was before it stays trunk-previous: roll back once more to undo.
    """
    place = open_place(edge.home, name)
    if place.repository is None:
        raise DeniedError(f"{name} is not published from here", advice="roll it back where it is")
    target, under = find_root(place, to), parse_path(at)
    if dry_run:
        totals = Totals()
        for change in diff(place.manifest.root_catalog, target.root_catalog, place.store, under):
            totals.add(change)
        if as_json:
            print_json({"totals": totals_row(totals)})
        else:
            click.echo(shown_totals(totals))
        return
    wanted = Rollback(target, under, drop_tags, tag, message, wait_s)
    with shown_progress() as progress:
        published = roll_back(place.repository, place.store, wanted, progress=progress)
    tell_published(edge.home, place.repository, published, as_json=as_json)
