"""`cvm repo create`, `ls`, `info`, `remove`."""

from __future__ import annotations

from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_rows
from cernvm.cli.repo.shown import (
    contents,
    described,
    described_replica,
    print_fields,
    warn_of_whitelist,
)
from cernvm.core.digest import Algorithm
from cernvm.core.errors import CvmError, ExistsError, InvalidInputError
from cernvm.fs.format.compress import Compression
from cernvm.fs.publish.creating import create_repository, remove_repository
from cernvm.fs.publish.repository import (
    known_repositories,
    new_repository,
    open_storage,
    read_repository,
)
from cernvm.fs.replicate.replica import (
    is_replica,
    known_replicas,
    open_replica,
    read_replica,
    remove_replica,
)
from cernvm.fs.replicate.through.record import known_pass_throughs
from cernvm.fs.store.opening import location_of


@click.command(epilog="Example: cvm repo create sft.cernvm.test --hash shake128")
@click.argument("name")
@click.option(
    "--storage", type=click.Path(path_type=Path), help="Folder that a web server exports."
)
@click.option("--store", metavar="URL", help="Instead of a folder: s3://BUCKET/PREFIX, fsspec+…")
@click.option(
    "--store-config",
    type=click.Path(path_type=Path),
    help="Private file with the store's endpoint and keys.",
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
    store: str | None,
    store_config: Path | None,
    keys: Path | None,
    algorithm: str,
    compression: str,
    as_json: bool,
) -> None:
    """Make the keys of repository NAME and a first, empty, signed revision."""
    if storage is not None and store is not None:
        raise InvalidInputError("--storage and --store exclude each other")
    if store is None and store_config is not None:
        raise InvalidInputError("--store-config belongs to --store")
    if is_replica(edge.home, name):
        raise ExistsError("replica", name, advice=f"remove it first: cvm repo remove {name}")
    repository = new_repository(
        edge.home,
        name,
        storage=storage if store is None else location_of(store, config=store_config, name=name),
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
    """List the repositories that are published from here, the replicas, and what is passed through."""
    rows = []
    for repository in known_repositories(edge.home):
        try:
            rows.append(described(repository))
        except CvmError as error:  # the others are listed all the same
            rows.append(_unread(repository.name, "repository", repository.storage, error))
    for replica in known_replicas(edge.home):
        try:
            rows.append(described_replica(replica))
        except CvmError as error:
            rows.append(_unread(replica.name, "replica", replica.storage, error))
    rows += [
        {"name": one.name, "kind": "pass-through", "storage": str(one.storage)}
        for one in known_pass_throughs(edge.home)
    ]
    columns = ("name", "kind", "revision", "hash", "compression", "packs", "storage")
    print_rows(rows, columns=columns, as_json=as_json)


def _unread(name: str, kind: str, storage: str, error: CvmError) -> dict[str, object]:
    click.echo(f"cvm: {name}: {error.what}", err=True)
    return {"name": name, "kind": kind, "storage": storage, "error": error.what}


@click.command(epilog="Example: cvm repo info sft.cernvm.test --json")
@click.argument("name")
@json_option
@click.pass_obj
def info(edge: Edge, *, name: str, as_json: bool) -> None:
    """Show where a repository is, its revision, and what it holds."""
    if is_replica(edge.home, name):
        replica = read_replica(edge.home, name)
        row, store = described_replica(replica), open_replica(replica)
    else:
        repository = read_repository(edge.home, name)
        row, store = described(repository), open_storage(repository)
        warn_of_whitelist(repository, store)
    if "root_hash" in row:
        row |= contents(store, str(row["root_hash"]))
    print_fields(row, as_json=as_json)


@click.command(epilog="Example: cvm repo remove old.cernvm.test --yes")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(edge: Edge, *, name: str, yes: bool) -> None:
    """Delete a repository with its storage and its keys, or a replica with its storage."""
    if is_replica(edge.home, name):
        replica = read_replica(edge.home, name)
        if not yes:
            click.confirm(
                f"Delete the replica {name} and its storage {replica.storage}?", abort=True
            )
        remove_replica(edge.home, replica)
        click.echo(f"removed {name}")
        return
    repository = read_repository(edge.home, name)
    if not yes:
        click.confirm(
            f"Delete {name}, its storage {repository.storage} and its keys for good?", abort=True
        )
    remove_repository(edge.home, repository)
    click.echo(f"removed {name}")
