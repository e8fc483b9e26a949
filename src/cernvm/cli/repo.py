"""`cvm repo`: create, publish and serve repositories."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json, print_rows
from cernvm.cli.profile import profile
from cernvm.core.digest import Algorithm
from cernvm.core.errors import InvalidInputError
from cernvm.core.process import check_unrecorded, record_process, remove_record
from cernvm.core.units import format_bytes, format_seconds
from cernvm.fs.format.compress import Compression
from cernvm.fs.publish.content import Progress
from cernvm.fs.publish.creating import create_repository, remove_repository
from cernvm.fs.publish.profiles import WrittenProfile
from cernvm.fs.publish.publishing import Options, Published, publish_tree
from cernvm.fs.publish.repository import (
    Repository,
    known_repositories,
    new_repository,
    read_repository,
    write_record,
)
from cernvm.fs.publish.revision import read_manifest, read_tags, renew
from cernvm.fs.publish.scan import Owner
from cernvm.fs.publish.serving import RepositoryServer
from cernvm.fs.store.local import LocalStore

DEFAULT_PORT = 8000


@click.group(epilog="Example: cvm repo create sft.cernvm.test")
def repo() -> None:
    """Create, publish and serve CernVM-FS repositories."""


repo.add_command(profile)


@repo.command(epilog="Example: cvm repo create sft.cernvm.test --hash shake128")
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
    _print_fields(_described(repository), as_json=as_json)


@repo.command(epilog="Example: cvm repo publish sft.cernvm.test ./release --at /v1 --tag v1")
@click.argument("name")
@click.argument("tree", type=click.Path(path_type=Path))
@click.option("--at", default="/", show_default=True, metavar="PATH", help="Replace what is here.")
@click.option("--tag", default="", metavar="TAG", help="Name the revision; the time, if not given.")
@click.option("--message", default="", metavar="TEXT", help="Describe the tag.")
@click.option(
    "--owner", default="", metavar="root|UID:GID", help="Owner of every path, not as in TREE."
)
@click.option(
    "--packs/--no-packs",
    default=None,
    help="Also store small files together, for clients far away; kept for the next time.  [default: packs]",
)
@json_option
@click.pass_obj
def publish(
    edge: Edge,
    *,
    name: str,
    tree: Path,
    at: str,
    tag: str,
    message: str,
    owner: str,
    packs: bool | None,
    as_json: bool,
) -> None:
    """Publish folder TREE in a new signed revision of repository NAME."""
    repository = read_repository(edge.home, name)
    if packs is not None and packs != repository.has_packs:
        repository = dataclasses.replace(repository, has_packs=packs)
        write_record(edge.home, repository)
    options = Options(at=at, tag=tag, description=message, owner=_parse_owner(owner))
    with _shown_progress() as progress:
        published = publish_tree(
            repository, LocalStore(repository.storage), tree, options=options, progress=progress
        )
    if as_json:
        print_json(_published_row(published))
        return
    click.echo(f"revision   {published.revision} of {published.name}")
    click.echo(f"root hash  {published.root_catalog}")
    click.echo(f"tag        {', '.join(published.tags)}")
    click.echo(f"files      {published.files}, {format_bytes(published.read_bytes)}")
    click.echo(
        f"stored     {published.stored_objects} new objects, {format_bytes(published.stored_bytes)}"
    )
    for written in published.profiles:
        _tell_losses(written)
    click.echo(f"took       {format_seconds(published.took_s)}")


@repo.command(epilog="Example: cvm repo serve --port 8000")
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="0: free.",
)
@click.pass_obj
def serve(edge: Edge, *, address: str, port: int) -> None:
    """Export the known repositories under /cvmfs/NAME/ over HTTP."""

    def storages() -> dict[str, Path]:
        return {repository.name: repository.storage for repository in known_repositories(edge.home)}

    with RepositoryServer(address, port, storages) as server:
        place = f"{address}:{server.port}"
        record = edge.home.run / "repo.json"
        check_unrecorded(record)
        record_process(record, "cvm repo serve", address=place)
        try:
            click.echo(f"listening on http://{place}")
            sys.stdout.flush()
            server.serve_forever(poll_interval=0.2)
        finally:
            remove_record(record)


@repo.command("ls", epilog="Example: cvm repo ls --json")
@json_option
@click.pass_obj
def list_repositories(edge: Edge, *, as_json: bool) -> None:
    """List the repositories that can be published from here."""
    rows = [_described(repository) for repository in known_repositories(edge.home)]
    columns = ("name", "revision", "hash", "compression", "packs", "storage")
    print_rows(rows, columns=columns, as_json=as_json)


@repo.command(epilog="Example: cvm repo info sft.cernvm.test --json")
@click.argument("name")
@json_option
@click.pass_obj
def info(edge: Edge, *, name: str, as_json: bool) -> None:
    """Show where a repository is, its revision, and what it holds."""
    _print_fields(_described(read_repository(edge.home, name)), as_json=as_json)


@repo.command(epilog="Example: cvm repo tags sft.cernvm.test")
@click.argument("name")
@json_option
@click.pass_obj
def tags(edge: Edge, *, name: str, as_json: bool) -> None:
    """List the tags of a repository, newest first."""
    repository = read_repository(edge.home, name)
    store = LocalStore(repository.storage)
    listed = read_tags(read_manifest(repository, store), store)
    rows = [
        {
            "name": tag.name,
            "revision": tag.revision,
            "tagged_at": f"{tag.tagged_at:%Y-%m-%dT%H:%M:%SZ}",
            "root_hash": str(tag.root_catalog),
            "description": tag.description,
        }
        for tag in sorted(listed, key=lambda tag: (-tag.revision, tag.name))
    ]
    columns = ("name", "revision", "tagged_at", "root_hash", "description")
    print_rows(rows, columns=columns, as_json=as_json)


@repo.command(epilog="Example: cvm repo resign sft.cernvm.test")
@click.argument("name")
@click.pass_obj
def resign(edge: Edge, *, name: str) -> None:
    """Sign a new whitelist with the master key."""
    repository = read_repository(edge.home, name)
    whitelist = renew(repository, LocalStore(repository.storage))
    click.echo(f"the whitelist of {name} is valid until {whitelist.expires_at:%Y-%m-%d %H:%M} UTC")


@repo.command(epilog="Example: cvm repo remove old.cernvm.test --yes")
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


def _described(repository: Repository) -> dict[str, object]:
    store = LocalStore(repository.storage)
    manifest = read_manifest(repository, store)
    published = manifest.published_at
    return {
        "name": repository.name,
        "revision": manifest.revision,
        "root_hash": str(manifest.root_catalog),
        "published_at": "" if published is None else f"{published:%Y-%m-%dT%H:%M:%SZ}",
        "hash": repository.algorithm.value,
        "compression": repository.compression.name.lower(),
        "packs": repository.has_packs,
        "storage": str(repository.storage),
        "public_key": str(repository.keys.public),
    }


def _published_row(published: Published) -> dict[str, object]:
    row = {
        field.name: getattr(published, field.name)
        for field in dataclasses.fields(published)
        if field.name not in ("root_catalog", "profiles")
    }
    row["root_hash"] = str(published.root_catalog)
    row["profiles"] = [_written_row(written) for written in published.profiles]
    return row


def _written_row(written: WrittenProfile) -> dict[str, object]:
    return {
        "label": written.label,
        "objects": 0 if written.profile is None else len(written.profile.accesses),
        "lost_paths": [path.decode("utf-8", "replace") for path in written.lost_paths],
    }


def _tell_losses(written: WrittenProfile) -> None:
    """What a profile lost, on stderr: nothing failed, but somebody may want to record it again."""
    if written.profile is None:
        click.echo(f"cvm: profile {written.label} is gone: none of its files is left", err=True)
    elif written.lost_paths:
        first = written.lost_paths[0].decode("utf-8", "replace")
        count = len(written.lost_paths)
        click.echo(
            f"cvm: profile {written.label} lost {count} files ({first} …); record it again",
            err=True,
        )


def _print_fields(row: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    width = max(len(key) for key in row)
    for key, value in row.items():
        click.echo(f"{key.replace('_', ' ').ljust(width)}  {value}")


def _parse_owner(text: str) -> Owner | None:
    if not text:
        return None
    if text == "root":
        return Owner(0, 0)
    uid, colon, gid = text.partition(":")
    if not (colon and uid.isdecimal() and gid.isdecimal() and max(int(uid), int(gid)) < 1 << 32):
        raise InvalidInputError(f"{text!r} is no owner", advice="write root, or UID:GID in numbers")
    return Owner(int(uid), int(gid))


@contextmanager
def _shown_progress() -> Iterator[Progress]:
    """A bar on stderr where that is a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield Progress()
        return
    from rich.console import Console  # noqa: PLC0415  # slow to import, and for terminals only
    from rich.status import Status  # noqa: PLC0415

    with Status("publishing", console=Console(stderr=True)) as status:

        def show(progress: Progress) -> None:
            if progress.packs or progress.files % 50 == 0:
                read, stored = (
                    format_bytes(progress.read_bytes),
                    format_bytes(progress.stored_bytes),
                )
                packs = f", {progress.packs} packs" if progress.packs else ""
                status.update(
                    f"publishing: {progress.files} files, {read} in, {stored} stored{packs}"
                )

        yield Progress(on_change=show)
