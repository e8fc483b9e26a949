"""`cvm repo profile`: record what a program reads first, so that clients fetch it ahead."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json, print_rows
from cernvm.cli.repo.following import follow_up
from cernvm.core.errors import InvalidInputError, NotFoundError
from cernvm.core.units import format_bytes
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.pack_table import MAX_LABEL_LENGTH, is_label
from cernvm.fs.format.profile import DEFAULT_TRIGGER, MAX_TRIGGER, Profile
from cernvm.fs.publish.profiles import Recording, WrittenProfile, read_profiles
from cernvm.fs.publish.publishing import Published, publish_profiles
from cernvm.fs.publish.repository import open_storage, read_repository
from cernvm.fs.publish.revision import read_manifest


@click.group(epilog="Example: cvm repo profile list sft.cernvm.test")
def profile() -> None:
    """Record and publish what programs read first."""


@profile.command(
    options_metavar="[OPTIONS]",
    epilog="Example: cvm repo profile record sft.cernvm.test numpy -- "
    "/cvmfs/sft.cernvm.test/bin/python3 -c 'import numpy'",
)
@click.argument("name")
@click.argument("label")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option(
    "--trigger",
    type=click.IntRange(1, MAX_TRIGGER),
    default=DEFAULT_TRIGGER,
    show_default=True,
    metavar="N",
    help="How many of the first files show that the program begins.",
)
@click.option(
    "--with",
    "beside",
    multiple=True,
    metavar="REPOSITORY",
    help="Another repository that the command needs; may be repeated.",
)
@json_option
@click.pass_obj
def record(
    edge: Edge,
    *,
    name: str,
    label: str,
    command: Sequence[str],
    trigger: int,
    beside: Sequence[str],
    as_json: bool,
) -> None:
    """Run COMMAND, which sees NAME as it was published last below /cvmfs, and publish what it read as profile LABEL.

    A profile of that label is replaced. Nothing is published when the command fails.
    """
    from cernvm.fs.api import Wanted, locate_mount  # noqa: PLC0415  # `cvm repo` needs no mounts
    from cernvm.fs.profile import record_command  # noqa: PLC0415

    _check_label(label)
    repository = read_repository(edge.home, name)
    recorded = record_command(
        repository,
        command,
        logs=edge.home.log,
        beside=[
            locate_mount(other, edge.home, Wanted(), environment=os.environ) for other in beside
        ],
    )
    if recorded.status:
        raise InvalidInputError(
            f"the command {_ending(recorded.status)}, so no profile was published",
            advice="mend it, or let it end well: sh -c '… || true'",
        )
    if not recorded.reads:
        raise InvalidInputError(
            f"the command read no file of {name}",
            advice=f"what it runs must lie below /cvmfs/{name}",
        )
    made = Recording(label, recorded.reads, trigger)
    published = publish_profiles(
        repository,
        open_storage(repository),
        lambda known: [*(one for one in known if one.label != label), made],
    )
    _print_recorded(published, label, as_json=as_json)
    follow_up(edge.home, repository)


@profile.command("list", epilog="Example: cvm repo profile list sft.cernvm.test --json")
@click.argument("name")
@json_option
@click.pass_obj
def list_profiles(edge: Edge, *, name: str, as_json: bool) -> None:
    """List the profiles of repository NAME."""
    rows = [_row(one) for one in _profiles(edge, name)]
    for row in rows if not as_json else ():
        row["content"] = format_bytes(row["content_bytes"])
        row["packed"] = format_bytes(row["packed_bytes"])
    columns = ("label", "files", "objects", "content", "packs", "packed", "trigger")
    print_rows(rows, columns=columns, as_json=as_json)


@profile.command(epilog="Example: cvm repo profile show sft.cernvm.test numpy")
@click.argument("name")
@click.argument("label")
@json_option
@click.pass_obj
def show(edge: Edge, *, name: str, label: str, as_json: bool) -> None:
    """List what profile LABEL of repository NAME fetches, in order."""
    found = _named(_profiles(edge, name), label)
    rows = [
        {
            "path": access.path.decode("utf-8", "replace"),
            "kind": _KINDS[access.kind],
            "offset": access.offset,
            "size": access.size_bytes,
            "pack": "" if access.pack is None else access.pack,
        }
        for access in found.accesses
    ]
    print_rows(rows, columns=("path", "kind", "offset", "size", "pack"), as_json=as_json)


@profile.command(epilog="Example: cvm repo profile remove sft.cernvm.test numpy")
@click.argument("name")
@click.argument("label")
@click.pass_obj
def remove(edge: Edge, *, name: str, label: str) -> None:
    """Publish a revision of repository NAME without profile LABEL."""
    repository = read_repository(edge.home, name)

    def without(known: Sequence[Recording]) -> Sequence[Recording]:
        if all(one.label != label for one in known):
            raise _unknown(label, [one.label for one in known])
        return [one for one in known if one.label != label]

    published = publish_profiles(repository, open_storage(repository), without)
    click.echo(f"removed {label}; {name} is at revision {published.revision}")
    follow_up(edge.home, repository)


_KINDS = {ObjectKind.PLAIN: "file", ObjectKind.PARTIAL: "chunk", ObjectKind.CATALOG: "catalog"}


def _profiles(edge: Edge, name: str) -> list[Profile]:
    repository = read_repository(edge.home, name)
    store = open_storage(repository)
    return read_profiles(read_manifest(repository, store).root_catalog, store)


def _named(profiles: Sequence[Profile], label: str) -> Profile:
    for one in profiles:
        if one.label == label:
            return one
    raise _unknown(label, [one.label for one in profiles])


def _unknown(label: str, known: Sequence[str]) -> NotFoundError:
    return NotFoundError("profile", label, advice=f"there are: {', '.join(known) or 'none'}")


def _row(one: Profile) -> dict[str, Any]:
    files = {a.path for a in one.accesses if a.kind is not ObjectKind.CATALOG}
    return {
        "label": one.label,
        "files": len(files),
        "objects": len(one.accesses),
        "content_bytes": sum(access.size_bytes for access in one.accesses),
        "packs": len(one.packs),
        "packed_bytes": sum(pack.size_bytes for pack in one.packs),
        "trigger": one.trigger,
    }


def _print_recorded(published: Published, label: str, *, as_json: bool) -> None:
    (written,) = [one for one in published.profiles if one.label == label]
    if written.profile is None:
        raise InvalidInputError("nothing of what the command read has content in the repository")
    row = {
        **_row(written.profile),
        "revision": published.revision,
        "begins_with": _texts(written.profile.first_paths),
    }
    if as_json:
        print_json(row)
        return
    _warn_of_twins(published.profiles, written.profile)
    click.echo(f"profile    {label}, in revision {published.revision} of {published.name}")
    click.echo(f"reads      {row['files']} files, {format_bytes(row['content_bytes'])}")
    click.echo(f"packs      {row['packs']}, {format_bytes(row['packed_bytes'])}")
    click.echo(f"begins     {', '.join(_texts(written.profile.first_paths))}")


def _warn_of_twins(profiles: Sequence[WrittenProfile], made: Profile) -> None:
    """Two programs that begin alike are fetched ahead together: a larger trigger tells them apart."""
    for other in profiles:
        begins = set(other.profile.first_paths) if other.profile is not None else set()
        if other.label != made.label and begins == set(made.first_paths):
            click.echo(
                f"cvm: {made.label} begins as {other.label} does, so clients fetch both"
                "\n  → record it with a larger --trigger",
                err=True,
            )


def _texts(paths: Sequence[bytes]) -> list[str]:
    return [path.decode("utf-8", "replace") for path in paths]


def _check_label(label: str) -> None:
    if not is_label(label):
        raise InvalidInputError(
            f"{label[:80]!r} is no label",
            advice=f"use at most {MAX_LABEL_LENGTH} letters, digits and . _ + -",
        )


def _ending(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
