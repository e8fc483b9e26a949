"""`cvm repo meta`."""

from __future__ import annotations

from typing import BinaryIO

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import print_json
from cernvm.fs.publish.metainfo import MAX_BYTES, parse_metainfo, publish_metainfo, read_metainfo
from cernvm.fs.publish.repository import open_storage, read_repository
from cernvm.fs.publish.revision import read_manifest


@click.command(epilog="Example: cvm repo meta sft.cernvm.test ./meta.json")
@click.argument("name")
@click.argument("file", required=False, type=click.File("rb"), metavar="[FILE|-]")
@click.option("--remove", is_flag=True, help="Say nothing of the repository any more.")
@click.pass_obj
def meta(edge: Edge, *, name: str, file: BinaryIO | None, remove: bool) -> None:
    """Show what repository NAME says of itself, as JSON, or have it say what is in FILE.

    Usual keys: administrator, email, organisation, description, url, recommended-stratum0, recommended-stratum1s,
    custom.
    """
    repository = read_repository(edge.home, name)
    store = open_storage(repository)
    if remove or file is not None:
        said = None if file is None else parse_metainfo(file.read(MAX_BYTES + 1))
        publish_metainfo(repository, store, said)
    print_json(read_metainfo(read_manifest(repository, store), store) or {})
