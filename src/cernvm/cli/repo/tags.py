"""`cvm repo tag` and `cvm repo tags`."""

from __future__ import annotations

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_rows
from cernvm.cli.repo.choices import (
    wait_option,
)
from cernvm.cli.repo.following import follow_up
from cernvm.cli.repo.places import Place, find_root, open_place
from cernvm.cli.repo.shown import print_fields
from cernvm.core.errors import DeniedError
from cernvm.fs.format.history import Tag, is_automatic
from cernvm.fs.publish.tags import TagChange, adding, change_tags, find_tag, moving, removing
from cernvm.fs.survey.reading import read_tags

_WAIT = wait_option(60.0)
_MESSAGE = click.option("--message", default=None, metavar="TEXT", help="Describe the tag.")
_TO = click.option(
    "--to",
    default="",
    metavar="REVISION",
    help="A tag, number or root hash; the last, if not given.",
)


@click.group(epilog="Example: cvm repo tag sft.cernvm.test add v1 --message 'first release'")
@click.argument("name")
@click.pass_context
def tag(context: click.Context, name: str) -> None:
    """Name revisions of repository NAME: list, show, add, move and remove tags."""
    edge: Edge = context.obj
    context.obj = open_place(edge.home, name)


@tag.command("list", epilog="Example: cvm repo tag sft.cernvm.test list --json")
@click.option("--branch", default=None, metavar="BRANCH", help="Only of this branch.")
@json_option
@click.pass_obj
def list_(place: Place, *, branch: str | None, as_json: bool) -> None:
    """List the tags, newest revision first."""
    _print_tags(place, branch=branch, as_json=as_json)


@tag.command(epilog="Example: cvm repo tag sft.cernvm.test show v1")
@click.argument("tag_name", metavar="TAG")
@json_option
@click.pass_obj
def show(place: Place, *, tag_name: str, as_json: bool) -> None:
    """Show one tag."""
    found = find_tag(read_tags(place.manifest, place.store), tag_name)
    print_fields(_row(found), as_json=as_json)


@tag.command(epilog="Example: cvm repo tag sft.cernvm.test add v1 --to 12")
@click.argument("tag_name", metavar="TAG")
@_TO
@_MESSAGE
@_WAIT
@json_option
@click.pass_obj
def add(
    place: Place, *, tag_name: str, to: str, message: str | None, wait_s: float, as_json: bool
) -> None:
    """Name a revision."""
    root = find_root(place, to).root_catalog if to else None
    change = adding(place.store, tag_name, root=root, description=message or "")
    tags = _changed(place, change, wait_s=wait_s)
    print_fields(_row(find_tag(tags, tag_name)), as_json=as_json)


@tag.command(epilog="Example: cvm repo tag sft.cernvm.test move production --to v2")
@click.argument("tag_name", metavar="TAG")
@_TO
@_MESSAGE
@_WAIT
@json_option
@click.pass_obj
def move(
    place: Place, *, tag_name: str, to: str, message: str | None, wait_s: float, as_json: bool
) -> None:
    """Have a tag name another revision."""
    root = find_root(place, to).root_catalog if to else None
    change = moving(place.store, tag_name, root=root, description=message)
    tags = _changed(place, change, wait_s=wait_s)
    print_fields(_row(find_tag(tags, tag_name)), as_json=as_json)


@tag.command(epilog="Example: cvm repo tag sft.cernvm.test remove v1 v2")
@click.argument("tag_names", metavar="TAG...", nargs=-1)
@click.option(
    "--automatic", is_flag=True, help="All tags that publications were given by themselves."
)
@_WAIT
@click.pass_obj
def remove(place: Place, *, tag_names: tuple[str, ...], automatic: bool, wait_s: float) -> None:
    """Forget tags; their revisions stay until they are collected."""
    names = list(tag_names)
    if automatic:
        names += [t.name for t in read_tags(place.manifest, place.store) if is_automatic(t)]
    _changed(place, removing(names), wait_s=wait_s)
    click.echo(f"removed {len(names)} tags")


@click.command(epilog="Example: cvm repo tags sft.cernvm.test")
@click.argument("name")
@json_option
@click.pass_obj
def tags(edge: Edge, *, name: str, as_json: bool) -> None:
    """List the tags of a repository, newest first."""
    _print_tags(open_place(edge.home, name), branch=None, as_json=as_json)


def _print_tags(place: Place, *, branch: str | None, as_json: bool) -> None:
    listed = read_tags(place.manifest, place.store)
    rows = [
        _row(one)
        for one in sorted(listed, key=lambda one: (-one.revision, one.name))
        if branch is None or one.branch == branch
    ]
    columns = ["name", "revision", "tagged_at", "root_hash", "description"]
    if any(row["branch"] for row in rows):
        columns.insert(2, "branch")
    print_rows(rows, columns=columns, as_json=as_json)


def _row(one: Tag) -> dict[str, object]:
    return {
        "name": one.name,
        "revision": one.revision,
        "branch": one.branch,
        "tagged_at": f"{one.tagged_at:%Y-%m-%dT%H:%M:%SZ}",
        "root_hash": str(one.root_catalog),
        "size_bytes": one.size_bytes,
        "description": one.description,
    }


def _changed(place: Place, change: TagChange, *, wait_s: float) -> tuple[Tag, ...]:
    """The tags as they are served from now on."""
    if place.repository is None:
        raise DeniedError(f"{place.name} is not published from here", advice="tag it where it is")
    tags = change_tags(place.repository, place.store, change, wait_s=wait_s)
    edge = click.get_current_context().find_object(Edge)
    assert edge is not None
    follow_up(edge.home, place.repository)
    return tags
