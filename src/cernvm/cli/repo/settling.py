"""`cvm repo settings` and `cvm repo hooks`: how a repository is published unless a publication says otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_rows
from cernvm.cli.repo.shown import print_fields
from cernvm.core.config import plain
from cernvm.fs.publish.hooks import Hook, find_hooks, hooks_folder
from cernvm.fs.publish.repository import read_repository, write_record
from cernvm.fs.publish.settings import with_settings


@click.command(epilog="Example: cvm repo settings sft.cernvm.test ttl_s=900 xattrs=false")
@click.argument("name")
@click.argument("chosen", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
@click.pass_obj
def settings(edge: Edge, *, name: str, chosen: Sequence[str], as_json: bool) -> None:
    """Show how repository NAME is published, or choose it for good; KEY= alone is the default again.

    What a setting changes shows in the next publication, in the paths that it touches.
    """
    repository = read_repository(edge.home, name)
    if chosen:
        after = with_settings(repository.settings, chosen)
        repository = dataclasses.replace(repository, settings=after)
        write_record(edge.home, repository)
    row = plain(repository.settings)
    if not as_json:
        row = {key: _shown(value) for key, value in row.items()}
    width = max(map(len, row))
    if as_json:
        print_fields(row, as_json=True)
        return
    for key, value in row.items():
        click.echo(f"{key.ljust(width)}  {value}")


@click.command(epilog="Example: cvm repo hooks sft.cernvm.test")
@click.argument("name")
@json_option
@click.pass_obj
def hooks(edge: Edge, *, name: str, as_json: bool) -> None:
    """List the programs that run before and after each publication of repository NAME.

    They are executables of $CVM_HOME/repositories/NAME.hooks whose names begin with before-publish or after-publish.
    """
    repository = read_repository(edge.home, name)
    rows = [
        {"when": hook.value, "hook": path.name, "path": str(path)}
        for hook in Hook
        for path in find_hooks(repository, hook)
    ]
    print_rows(rows, columns=("when", "hook", "path"), as_json=as_json)
    if not rows and not as_json:
        click.echo(f"cvm: put executables into {hooks_folder(repository)}", err=True)


def _shown(value: object) -> object:
    """A setting as `settings` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "(as in the last revision)" if value is None else value
