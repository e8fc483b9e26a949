"""`cvm repo publish`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option
from cernvm.cli.repo.choices import (
    dry_run_option,
    message_option,
    owner_option,
    settings_option,
    tag_option,
    wait_option,
)
from cernvm.cli.repo.following import tell_published
from cernvm.cli.repo.progress import shown_progress
from cernvm.cli.repo.shown import parse_owner
from cernvm.core.errors import InvalidInputError
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.repository import (
    open_storage,
    read_repository,
    write_record,
)
from cernvm.fs.publish.settings import with_settings
from cernvm.fs.publish.sink import BranchSink, RevisionSink

if TYPE_CHECKING:
    from cernvm.cli.repo.rehearsing import ShownRehearsal


@click.command(epilog="Example: cvm repo publish sft.cernvm.test ./release --at /v1 --tag v1")
@click.argument("name")
@click.argument("tree", required=False, type=click.Path(path_type=Path))
@click.option("--at", default="/", show_default=True, metavar="PATH", help="Replace what is here.")
@tag_option
@click.option(
    "--branch", default="", metavar="NAME", help="Go on beside what is served: only a tag names it."
)
@message_option
@owner_option
@click.option(
    "--packs/--no-packs",
    default=None,
    help="Also store small files together, for clients far away; kept for the next time.  [default: packs]",
)
@settings_option
@wait_option()
@dry_run_option
@click.option(
    "--thorough", is_flag=True, help="Read all files, store what was lost, write all catalogs."
)
@json_option
@click.pass_obj
def publish(
    edge: Edge,
    *,
    name: str,
    tree: Path | None,
    at: str,
    tag: str,
    branch: str,
    message: str,
    owner: str,
    packs: bool | None,
    chosen: Sequence[str],
    wait_s: float,
    dry_run: bool,
    thorough: bool,
    as_json: bool,
) -> None:
    """Publish folder TREE in a new signed revision of repository NAME; without TREE, the open transaction."""
    repository = read_repository(edge.home, name)
    if tree is None and branch:
        raise InvalidInputError("a branch needs a folder")
    if tree is None and dry_run:
        raise InvalidInputError("a dry run needs a folder", advice=f"look: cvm repo edit {name}")
    if packs is not None and packs != repository.has_packs and not dry_run:
        repository = dataclasses.replace(repository, has_packs=packs)
        write_record(edge.home, repository)
    repository = dataclasses.replace(
        repository, settings=with_settings(repository.settings, chosen)
    )
    rehearsal: ShownRehearsal | None = None
    if dry_run:
        from cernvm.cli.repo.rehearsing import ShownRehearsal  # noqa: PLC0415  # all of the reader comes with it

        rehearsal = ShownRehearsal(as_json)
    options = Options(
        at=at,
        tag=tag,
        description=message,
        owner=parse_owner(owner),
        is_thorough=thorough,
        wait_s=wait_s,
        rehearse=None if rehearsal is None else rehearsal.tell,
    )
    if tree is None:
        from cernvm.cli.repo.editing import publish_open  # noqa: PLC0415  # not for a tree

        publish_open(edge, name, options, as_json=as_json)
        return
    store = open_storage(repository)
    sink: RevisionSink | None = BranchSink(repository, store, branch) if branch else None
    if repository.gateway:
        if branch:
            raise InvalidInputError("a gateway knows no branches")
        from cernvm.fs.gateway.joining import open_publication  # noqa: PLC0415  # most have none

        repository, store, sink = open_publication(repository, at)
    with shown_progress(tree) as progress:
        published = publish_tree(
            repository, store, tree, options=options, sink=sink, progress=progress
        )
    if rehearsal is not None:
        rehearsal.finish(published)
    else:
        tell_published(edge.home, repository, published, as_json=as_json)
