"""`cvm repo create`, `ls`, `info`, `remove`."""

from __future__ import annotations

from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_rows
from cernvm.cli.repo.shown import (
    described,
    print_fields,
)
from cernvm.core.digest import Algorithm
from cernvm.fs.format.compress import Compression
from cernvm.fs.publish.creating import create_repository, remove_repository
from cernvm.fs.publish.repository import (
    known_repositories,
    new_repository,
    read_repository,
)


@click.command(epilog="Example: cvm repo create sft.cernvm.test --hash shake128")
@click.argument("name")
@click.option(
    "--storage", type=click.Path(path_type=Path), help="Folder that a web server exports."
)
@click.option("--keys", type=click.Path(path_type=Path), help="Folder for the four key files.")
@click.option(
    "--hash",
    "algorithm",
    type=click.Choice([algorithm.value for algorithm in Algorithm]),
    default=Algorithm.SHA1.value,
    show_default=True,
    help="How objects are named.",
)
@click.option(
    "--compression",
    type=click.Choice([compression.name.lower() for compression in Compression]),
    default=Compression.ZLIB.name.lower(),
    show_default=True,
    help="How files are stored.",
)
@json_option
@click.pass_obj
def create(
    edge: Edge,
    *,
    name: str,
    storage: Path | None,
    keys: Path | None,
    algorithm: str,
    compression: str,
    as_json: bool,
) -> None:
    """Make the keys of repository NAME and a first, empty, signed revision."""
    repository = new_repository(
        edge.home,
        name,
        storage=storage,
        keys=keys,
        algorithm=Algorithm(algorithm),
        compression=Compression[compression.upper()],
    )
    create_repository(edge.home, repository)
    print_fields(described(repository), as_json=as_json)


@click.command("ls", epilog="Example: cvm repo ls --json")
@json_option
@click.pass_obj
def list_repositories(edge: Edge, *, as_json: bool) -> None:
    """List the repositories that can be published from here."""
    rows = [described(repository) for repository in known_repositories(edge.home)]
    columns = ("name", "revision", "hash", "compression", "packs", "storage")
    print_rows(rows, columns=columns, as_json=as_json)


@click.command(epilog="Example: cvm repo info sft.cernvm.test --json")
@click.argument("name")
@json_option
@click.pass_obj
def info(edge: Edge, *, name: str, as_json: bool) -> None:
    """Show where a repository is, its revision, and what it holds."""
    print_fields(described(read_repository(edge.home, name)), as_json=as_json)


@click.command(epilog="Example: cvm repo remove old.cernvm.test --yes")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(edge: Edge, *, name: str, yes: bool) -> None:
    """Delete a repository with its storage and its keys."""
    repository = read_repository(edge.home, name)
    if not yes:
        click.confirm(
            f"Delete {name}, its storage {repository.storage} and its keys for good?", abort=True
        )
    remove_repository(edge.home, repository)
    click.echo(f"removed {name}")
