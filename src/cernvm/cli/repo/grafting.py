"""`cvm repo graft`: the two files by which a file is published without its data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.core.errors import InvalidInputError
from cernvm.core.home import ensure_folder, write_atomically
from cernvm.fs.format.compress import Compression
from cernvm.fs.publish.grafting import graft_of
from cernvm.fs.publish.grafts import GRAFT_PREFIX, format_graft
from cernvm.fs.publish.repository import read_repository


@click.command(
    epilog="Example: cvm repo graft data.cernvm.test /store/run7.root --into ./tree/runs"
)
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--into", type=click.Path(path_type=Path), required=True, help="Folder of the source tree."
)
@click.option(
    "--compression",
    type=click.Choice(["none", "zlib"]),
    default="none",
    show_default=True,
    help="How the objects are, or will be, stored.",
)
@click.pass_obj
def graft(edge: Edge, *, name: str, file: Path, into: Path, compression: str) -> None:
    """Make an empty file like FILE and, beside it, the names of its objects, to publish it in NAME without its data."""
    repository = read_repository(edge.home, name)
    target = into / file.name
    if target.exists() and target.stat().st_size:
        raise InvalidInputError(f"{target} has data", advice="choose another folder")
    made = graft_of(repository, file, Compression[compression.upper()])
    ensure_folder(into)
    target.touch()
    shutil.copystat(file, target)
    marker = into / os.fsdecode(GRAFT_PREFIX + os.fsencode(file.name))
    write_atomically(marker, format_graft(made))
    click.echo(f"grafted    {target}")
    click.echo(f"checksum   {made.digest}")
    click.echo(f"chunks     {len(made.chunks)}")
