"""`cvm repo export`, `import`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json
from cernvm.cli.repo.choices import keys_option
from cernvm.cli.repo.places import Place, find_root, open_place
from cernvm.core.errors import InvalidInputError
from cernvm.core.units import format_bytes
from cernvm.fs.format.history import Tag
from cernvm.fs.format.objects import MANIFEST_PATH
from cernvm.fs.replicate.exporting import export
from cernvm.fs.replicate.importing import Imported, import_stream
from cernvm.fs.replicate.replica import (
    Replica,
    forget_replica,
    is_replica,
    open_replica,
    read_replica,
    write_replica,
)
from cernvm.fs.replicate.stream import StreamReader
from cernvm.fs.survey.reading import read_tags

_PIPE = "-"


@click.command(
    "export",
    epilog="Example: cvm repo export sft.cernvm.test --from v1 v1-to-v2.stream",
)
@click.argument("name")
@click.argument("file")
@click.option(
    "--from", "base", default="", metavar="REVISION", help="Leave out what this tag or number has."
)
@click.option(
    "--tag", "tags", multiple=True, metavar="GLOB", help="Bring revisions so tagged, too."
)
@json_option
@click.pass_obj
def export_(
    edge: Edge, *, name: str, file: str, base: str, tags: Sequence[str], as_json: bool
) -> None:
    """Write the last revision of repository or replica NAME as one FILE (- for stdout).

    It is for machines without a network: cvm repo import takes it in there.
    """
    place = open_place(edge.home, name)
    since = find_root(place, base) if base else None
    also = [tag.root_catalog for tag in _tagged(place, tags)]
    with _written(file) as out, _shown("exported") as show:
        done = export(place.store, place.manifest, out, base=since, also=also, on_progress=show)
    if file == _PIPE:
        return
    if as_json:
        print_json(asdict(done))
        return
    what = f"revision {done.revision} of {done.name}"
    click.echo(f"exported   {what}{f', without what {base} has' if base else ''}")
    click.echo(f"objects    {done.objects}")
    click.echo(f"stream     {format_bytes(done.size_bytes)}")


@click.command(
    "import",
    epilog="Example: cvm repo import sft.stream --key sft.cernvm.test.pub",
)
@click.argument("file")
@keys_option("The repository's public key, the first time.")
@click.option("--storage", default="", help="Folder, or another store, to import to.")
@json_option
@click.pass_obj
def import_(edge: Edge, *, file: str, keys: Sequence[Path], storage: str, as_json: bool) -> None:
    """Take the stream in FILE (- for stdin) into a replica, and serve its revision."""
    with _read(file) as source:
        reader = StreamReader(source)
        replica = _replica(edge, reader.header.name, keys, storage)
        done = _import(edge, replica, reader)
    if as_json:
        row = asdict(done)
        row["root_catalog"] = str(done.root_catalog)
        print_json({"root_hash" if key == "root_catalog" else key: row[key] for key in row})
        return
    was = "" if done.is_new else ", as before"
    click.echo(f"revision   {done.revision} of {done.name}{was}")
    click.echo(f"root hash  {done.root_catalog}")
    click.echo(f"objects    {done.objects}, of which {done.new_objects} are new")


def _import(edge: Edge, replica: Replica, reader: StreamReader) -> Imported:
    """A replica of which nothing came is forgotten again."""
    is_new = not is_replica(edge.home, replica.name)
    replica = write_replica(edge.home, replica)
    store = open_replica(replica)
    try:
        with _shown("imported") as show:
            return import_stream(replica, store, reader, on_progress=lambda n: show(n, 0))
    except Exception:
        if is_new and not store.has(MANIFEST_PATH) and not any(store.paths("data/")):
            forget_replica(edge.home, replica)
        raise


def _replica(edge: Edge, name: str, keys: Sequence[Path], storage: str) -> Replica:
    location = storage if "://" in storage or not storage else str(Path(storage).absolute())
    paths = tuple(key.absolute() for key in keys)
    if is_replica(edge.home, name):
        known = read_replica(edge.home, name)
        if location and location != known.storage:
            raise InvalidInputError(f"{name} is kept in {known.storage}")
        return replace(known, public_keys=paths or known.public_keys)
    if not keys:
        raise InvalidInputError(
            f"nobody vouches for {name}", advice="name its public key: --key FILE"
        )
    return Replica(name, location or str(edge.home.storage / name), (), paths)


def _tagged(place: Place, patterns: Sequence[str]) -> Iterator[Tag]:
    for tag in read_tags(place.manifest, place.store):
        if any(fnmatchcase(tag.name, pattern) for pattern in patterns):
            yield tag


@contextmanager
def _written(file: str) -> Iterator[IO[bytes]]:
    """Where a stream is written: to stdout, or a file that is there once it is whole."""
    if file == _PIPE:
        yield sys.stdout.buffer
        return
    part = Path(f"{file}.part")
    try:
        with part.open("wb") as out:
            yield out
            os.fsync(out.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _read(file: str) -> Iterator[IO[bytes]]:
    if file == _PIPE:
        yield sys.stdin.buffer
        return
    with Path(file).open("rb", buffering=1 << 20) as source:
        yield source


@contextmanager
def _shown(verb: str) -> Iterator[Callable[[int, int], None]]:
    """A line on stderr that counts, where that is a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _objects, _bytes: None
        return
    from rich.console import Console  # noqa: PLC0415  # slow to import, and for terminals only
    from rich.status import Status  # noqa: PLC0415

    with Status(verb, console=Console(stderr=True)) as status:
        yield lambda objects, size_bytes: status.update(
            f"{verb}: {objects} objects" + (f", {format_bytes(size_bytes)}" if size_bytes else "")
        )
