"""`cvm repo adopt` and `release`: go on with a repository that another publisher made, and give it back."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option
from cernvm.cli.repo.shown import described, print_fields
from cernvm.core.errors import ExistsError, InvalidInputError
from cernvm.fs.parameters.server import KEYS, ROOT, read_server_parameters, repository_of
from cernvm.fs.publish.adopting import adopt_repository, release_repository
from cernvm.fs.publish.repository import new_repository, read_repository
from cernvm.fs.replicate.replica import (
    Replica,
    forget_replica,
    is_replica,
    open_replica,
    read_replica,
)
from cernvm.fs.replicate.state import read_state


@click.command(
    epilog="Example: cvm repo adopt sft.cernvm.test --storage /srv/cvmfs/sft.cernvm.test --keys /etc/cvmfs/keys"
)
@click.argument("name")
@click.option("--storage", metavar="PLACE", help="Where it lies.  [default: as server.conf says]")
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    default=KEYS,
    show_default=True,
    help="Folder with its keys.",
)
@click.option(
    "--configuration",
    type=click.Path(path_type=Path),
    default=Path(ROOT),
    show_default=True,
    help="Folder with NAME/server.conf of the original.",
)
@click.option("--packs/--no-packs", default=True, show_default=True, help="Publish with packs.")
@json_option
@click.pass_obj
def adopt(
    edge: Edge,
    *,
    name: str,
    storage: str | None,
    keys: Path,
    configuration: Path,
    packs: bool,
    as_json: bool,
) -> None:
    """Publish repository NAME from here, where another publisher made it; nothing is copied or changed."""
    if storage is None:
        told = read_server_parameters(name, root=PurePosixPath(configuration.absolute()))
        repository = repository_of(edge.home, name, told, keys=keys)
    else:
        repository = new_repository(edge.home, name, storage=storage, keys=keys)
    replica = read_replica(edge.home, name) if is_replica(edge.home, name) else None
    if replica is not None:
        _check_replica(replica, repository.storage)
    adopted = adopt_repository(edge.home, dataclasses.replace(repository, has_packs=packs))
    if replica is not None:
        forget_replica(edge.home, replica)
    for warning in adopted.warnings:
        click.echo(f"cvm: {warning}", err=True)
    print_fields(described(adopted.repository), as_json=as_json)


def _check_replica(replica: Replica, storage: str) -> None:
    """A replica can become the repository; beside one of another place the name would mean two."""
    if replica.storage != storage:
        raise ExistsError(
            "replica",
            replica.name,
            advice=f"adopt that one: --storage {replica.storage}; or cvm repo remove {replica.name}",
        )
    state = read_state(open_replica(replica))
    if paths := replica.scope.paths or (() if state is None else state.paths):
        raise InvalidInputError(
            f"the replica has {', '.join(paths)} only", advice="replicate all of it first"
        )


@click.command(epilog="Example: cvm repo release sft.cernvm.test")
@click.argument("name")
@click.pass_obj
def release(edge: Edge, *, name: str) -> None:
    """Publish repository NAME from here no more; its storage and keys stay, for another publisher to go on."""
    repository = read_repository(edge.home, name)
    release_repository(edge.home, repository)
    click.echo(
        f"released {name}; it lies in {repository.storage}, its keys in {repository.keys.folder}"
    )
