"""`cvm repo edit`, `transaction`, `abort`, `copy`, and `publish` of an open transaction."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, printable
from cernvm.cli.repo.choices import (
    message_option,
    tag_option,
    wait_option,
)
from cernvm.cli.repo.following import tell_published
from cernvm.cli.repo.progress import shown_progress
from cernvm.cli.repo.shown import parse_owner
from cernvm.cli.trailing import TrailingCommand, trailing
from cernvm.core.errors import CvmError, InvalidInputError
from cernvm.core.units import format_bytes
from cernvm.fs.edit.comparing import Difference, DifferenceKind
from cernvm.fs.edit.copying import publish_copy
from cernvm.fs.edit.opening import Bench, begin, run_in, show
from cernvm.fs.edit.opening import abort as abort_transaction
from cernvm.fs.edit.overlay import shows_true_owners
from cernvm.fs.edit.publishing import differences, publish_edits
from cernvm.fs.publish.publishing import Options, parse_path
from cernvm.fs.publish.repository import open_storage, read_repository
from cernvm.fs.publish.transaction import open_transaction

_MOST_SHOWN = 20
_SIGNS = {
    DifferenceKind.CREATED: "+",
    DifferenceKind.CHANGED: "~",
    DifferenceKind.METADATA: "=",
    DifferenceKind.DELETED: "-",
}
_RC = """[ -f ~/.bashrc ] && . ~/.bashrc
PS1="(edit $CVM_EDIT) $PS1"
"""

_at = click.option(
    "--at", default="/", metavar="PATH", help="Change only what is below this folder."
)


@click.command(
    cls=TrailingCommand,
    options_metavar="[OPTIONS] [-- COMMAND...]",
    epilog="Example: cvm repo edit sft.cernvm.test --yes -- rm -r /cvmfs/sft.cernvm.test/v1",
)
@click.argument("name")
@_at
@click.option("--resume", is_flag=True, help="Go on with changes that were kept.")
@click.option(
    "--yes", "is_sure", is_flag=True, help="Publish without a question, if COMMAND succeeds."
)
@click.option("--discard", is_flag=True, help="Show what COMMAND does, and drop it.")
@tag_option
@message_option
@click.option("--owner", default="", metavar="root|UID:GID", help="Owner of all that was changed.")
@wait_option()
@click.pass_context
def edit(
    ctx: click.Context,
    *,
    name: str,
    at: str,
    resume: bool,
    is_sure: bool,
    discard: bool,
    tag: str,
    message: str,
    owner: str,
    wait_s: float,
) -> int:
    """Open a shell, or run COMMAND, in which /cvmfs/NAME is writable; then publish, keep or drop the changes.

    Needs no root: others see nothing of it before it is published. The exit status is that of COMMAND.
    """
    edge: Edge = ctx.obj
    bench, command = _bench(edge, name), trailing(ctx)
    if is_sure and discard:
        raise InvalidInputError("--yes and --discard exclude each other")
    options = Options(tag=tag, description=message, owner=parse_owner(owner), wait_s=wait_s)
    if not resume:
        begin(bench, at=parse_path(at), wait_s=wait_s)
    try:
        status = _run(bench, command)
    except CvmError:
        if not resume:
            abort_transaction(bench)
        raise
    _decide(
        bench,
        options,
        is_sure=is_sure and status == 0,
        discard=discard,
        has_failed=bool(command and status),
    )
    return status if command else 0


@click.command(
    cls=TrailingCommand,
    options_metavar="[OPTIONS] [-- COMMAND...]",
    epilog="Example: cvm repo transaction sft.cernvm.test -- cp -r build /cvmfs/sft.cernvm.test/v2",
)
@click.argument("name")
@_at
@click.option(
    "--template",
    default="",
    metavar="FROM=TO",
    help="Begin with a copy of FROM at TO, made without reading it.",
)
@wait_option()
@click.pass_context
def transaction(ctx: click.Context, *, name: str, at: str, template: str, wait_s: float) -> int:
    """Open a transaction of NAME, which is published by `cvm repo publish NAME` and dropped by `cvm repo abort NAME`.

    COMMAND is run where /cvmfs/NAME is writable; with a transaction open, more commands may follow. As root and without
    COMMAND it is writable for the whole machine; the folder is printed.
    """
    edge: Edge = ctx.obj
    bench, command = _bench(edge, name), trailing(ctx)
    is_open = open_transaction(bench.repository) is not None
    if not (is_open and command):
        begin(bench, at=parse_path(at), template=_pair(template), wait_s=wait_s)
    elif parse_path(at) or template:
        raise InvalidInputError(
            "a transaction is open already", advice="leave out --at and --template"
        )
    if command:
        return run_in(bench, command, environment=_environment(name))
    if shows_true_owners():
        try:
            click.echo(show(bench))
        except CvmError:
            abort_transaction(bench)
            raise
    else:
        click.echo(f"work in it: cvm repo transaction {name} -- COMMAND", err=True)
    return 0


@click.command(epilog="Example: cvm repo abort sft.cernvm.test")
@click.argument("name")
@click.pass_obj
def abort(edge: Edge, *, name: str) -> None:
    """Drop the open transaction of NAME with all its changes."""
    abort_transaction(_bench(edge, name))
    click.echo(f"the transaction of {name} is dropped")


@click.command(epilog="Example: cvm repo copy sft.cernvm.test /v1 /v2")
@click.argument("name")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--from-tag", default="", metavar="TAG", help="Copy it as it was in that revision.")
@click.option("--replace", "replaces", is_flag=True, help="Drop what stands at TO.")
@tag_option
@message_option
@wait_option()
@json_option
@click.pass_obj
def copy(
    edge: Edge,
    *,
    name: str,
    source: str,
    target: str,
    from_tag: str,
    replaces: bool,
    tag: str,
    message: str,
    wait_s: float,
    as_json: bool,
) -> None:
    """Publish a revision of NAME in which TO is a copy of FROM; no content is read, however much it is."""
    bench = _bench(edge, name)
    options = Options(tag=tag, description=message, wait_s=wait_s)
    with shown_progress() as progress:
        published = publish_copy(
            bench.repository,
            bench.store,
            parse_path(source),
            parse_path(target),
            of_tag=from_tag,
            replaces=replaces,
            options=options,
            progress=progress,
        )
    tell_published(edge.home, bench.repository, published, as_json=as_json)


def publish_open(edge: Edge, name: str, options: Options, *, as_json: bool) -> None:
    """Publish the open transaction, as `cvm repo publish` without a folder does."""
    bench = _bench(edge, name)
    with shown_progress() as progress:
        published = publish_edits(bench, options=options, progress=progress)
    tell_published(edge.home, bench.repository, published, as_json=as_json)


def _bench(edge: Edge, name: str) -> Bench:
    repository = read_repository(edge.home, name)
    return Bench(edge.home, repository, open_storage(repository))


def _pair(text: str) -> tuple[bytes, bytes] | None:
    if not text:
        return None
    source, equals, target = text.partition("=")
    if not equals:
        raise InvalidInputError(f"{text!r} is no template", advice="write FROM=TO")
    return parse_path(source), parse_path(target)


def _run(bench: Bench, command: list[str]) -> int:
    name = bench.repository.name
    if command:
        return run_in(bench, command, environment=_environment(name))
    shell = os.environ.get("SHELL") or "/bin/sh"
    words = [shell]
    environment = _environment(name)
    if Path(shell).name == "bash":
        rc = bench.place.folder / "bashrc"
        bench.place.make()
        rc.write_text(_RC)
        words += ["--rcfile", str(rc)]
    else:
        environment["PS1"] = f"(edit {name}) $ "
    click.echo(
        f"/cvmfs/{name} is writable in this shell; leave it to publish, keep or drop", err=True
    )
    return run_in(bench, words, environment=environment, folder=Path("/cvmfs") / name)


def _environment(name: str) -> dict[str, str]:
    return {**os.environ, "CVM_EDIT": name}


def _decide(
    bench: Bench, options: Options, *, is_sure: bool, discard: bool, has_failed: bool
) -> None:
    """Show what was changed, and do with it what was or is said."""
    name = bench.repository.name
    if not tell_differences(differences(bench)):
        abort_transaction(bench)
        click.echo("nothing was changed", err=True)
        return
    choice = "discard" if discard else "publish" if is_sure else _ask(has_failed=has_failed)
    if choice == "publish":
        with shown_progress() as progress:
            published = publish_edits(bench, options=options, progress=progress)
        tell_published(bench.home, bench.repository, published, as_json=False)
    elif choice == "discard":
        abort_transaction(bench)
        click.echo("the changes are dropped", err=True)
    else:
        click.echo("the changes are kept, and nobody else can publish meanwhile", err=True)
        click.echo(
            f"  → go on: cvm repo edit {name} --resume; or end it: cvm repo publish {name},"
            f" cvm repo abort {name}",
            err=True,
        )


def _ask(*, has_failed: bool) -> str:
    if not sys.stdin.isatty():
        return "keep"
    default = "keep" if has_failed else "publish"
    choices = click.Choice(["publish", "keep", "discard"])
    answer: str = click.prompt("What now?", type=choices, default=default, err=True)
    return answer


def tell_differences(found: Iterable[Difference]) -> bool:
    """Print on stderr what was changed, the first paths and all counts; whether there was anything."""
    counts: Counter[DifferenceKind] = Counter()
    sizes: Counter[DifferenceKind] = Counter()
    for number, one in enumerate(found):
        counts[one.kind] += 1
        sizes[one.kind] += one.size_bytes
        if number < _MOST_SHOWN:
            slash = "/" if _is_folder(one) else ""
            path = os.fsdecode(one.path or b"/").encode("utf-8", "backslashreplace").decode()
            click.echo(f"{_SIGNS[one.kind]} {printable(path)}{slash}", err=True)
    if sum(counts.values()) > _MOST_SHOWN:
        click.echo(f"… and {sum(counts.values()) - _MOST_SHOWN} more", err=True)
    texts = [
        f"{counts[kind]} {kind.value}" + (f" ({format_bytes(sizes[kind])})" if sizes[kind] else "")
        for kind in DifferenceKind
        if counts[kind]
    ]
    if texts:
        click.echo(", ".join(texts), err=True)
    return bool(counts)


def _is_folder(one: Difference) -> bool:
    if one.found is not None:
        return one.found.is_directory and bool(one.path)
    return one.before is not None and one.before.entry.is_directory
