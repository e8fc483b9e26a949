"""`cvm repo tags`."""

from __future__ import annotations

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_rows
from cernvm.fs.publish.repository import (
    open_storage,
    read_repository,
)
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.survey.reading import read_tags


@click.command(epilog="Example: cvm repo tags sft.cernvm.test")
@click.argument("name")
@json_option
@click.pass_obj
def tags(edge: Edge, *, name: str, as_json: bool) -> None:
    """List the tags of a repository, newest first."""
    repository = read_repository(edge.home, name)
    store = open_storage(repository)
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
