"""`cvm repo watch`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option
from cernvm.cli.repo.choices import (
    owner_option,
)
from cernvm.cli.repo.following import follow_up
from cernvm.cli.repo.shown import parse_owner, published_row
from cernvm.core.errors import CvmError, InvalidInputError
from cernvm.core.units import format_bytes
from cernvm.fs.publish.publishing import Options, Published
from cernvm.fs.publish.repository import open_storage, read_repository
from cernvm.fs.publish.watching import watch_tree


@click.command(epilog="Example: cvm repo watch sft.cernvm.test ./release --at /nightly --quiet 10")
@click.argument("name")
@click.argument("tree", type=click.Path(path_type=Path))
@click.option("--at", default="/", show_default=True, metavar="PATH", help="Replace what is here.")
@owner_option
@click.option(
    "--quiet",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.05, 86_400),
    metavar="SECONDS",
    help="How long nothing may have written to TREE.",
)
@click.option(
    "--poll",
    default=None,
    type=click.FloatRange(0.05, 86_400),
    metavar="SECONDS",
    help="Look at TREE this often, for network disks, where the kernel notes no changes.",
)
@json_option
@click.pass_obj
def watch(
    edge: Edge,
    *,
    name: str,
    tree: Path,
    at: str,
    owner: str,
    quiet: float,
    poll: float | None,
    as_json: bool,
) -> None:
    """Publish folder TREE now, and again whenever it changed and is quiet, until ended by Ctrl-C or SIGTERM."""
    repository = read_repository(edge.home, name)
    if repository.gateway:
        raise InvalidInputError(
            "what goes through a gateway is not watched", advice=f"use: cvm repo publish {name}"
        )

    def tell(one: Published | CvmError) -> None:
        if isinstance(one, CvmError):
            click.echo(f"cvm: {one.what}" + (f"\n  → {one.advice}" if one.advice else ""), err=True)
        elif as_json:
            click.echo(json.dumps(published_row(one)))
        elif one.is_new:
            stored = f"{one.stored_objects} new objects, {format_bytes(one.stored_bytes)}"
            click.echo(f"revision {one.revision}: {one.files} files, {stored}")
        if isinstance(one, Published):
            follow_up(edge.home, repository, has_changed=one.is_new)

    watch_tree(
        repository,
        open_storage(repository),
        tree,
        options=Options(at=at, owner=parse_owner(owner)),
        tell=tell,
        quiet_s=quiet,
        poll_s=poll or 10.0,
        is_polling=poll is not None,
    )
