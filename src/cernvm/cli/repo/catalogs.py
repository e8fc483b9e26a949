"""`cvm repo catalogs`."""

from __future__ import annotations

import dataclasses

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_rows
from cernvm.cli.repo.places import find_root, open_place, shown_path
from cernvm.core.units import format_bytes
from cernvm.fs.survey.overview import CatalogLine, list_catalogs


@click.command(epilog="Example: cvm repo catalogs sft.cernvm.test --tag v1")
@click.argument("name", metavar="NAME|FOLDER")
@click.option("--tag", default="", metavar="TAG", help="Of this revision, not the last.")
@json_option
@click.pass_obj
def catalogs(edge: Edge, *, name: str, tag: str, as_json: bool) -> None:
    """Show the tree of catalogs of a revision: how many entries each lists, its size and its hash."""
    place = open_place(edge.home, name)
    chosen = find_root(place, tag)
    size_bytes = chosen.size_bytes or (0 if tag else place.manifest.root_catalog_size_bytes)
    found = list_catalogs(place.store, chosen.root_catalog, size_bytes=size_bytes)
    rows = [_row(one, as_json=as_json) for one in found]
    columns = ("catalog", "entries", "files", "content", "size", "packs", "hash")
    print_rows(rows, columns=columns, as_json=as_json)


def _row(one: CatalogLine, *, as_json: bool) -> dict[str, object]:
    path = shown_path(one.catalog.path)
    own = one.statistics.own
    row: dict[str, object] = {"entries": one.entries, "hash": str(one.catalog.digest)}
    if as_json:
        row |= {"path": path, "depth": one.depth, "size_bytes": one.catalog.size_bytes}
        row |= {"packs": one.packs, "self": dataclasses.asdict(own)}
        return row | {"subtree": dataclasses.asdict(one.statistics.subtree)}
    return row | {
        "catalog": "  " * one.depth + path,
        "files": own.regular,
        "content": format_bytes(own.file_size),
        "size": format_bytes(one.catalog.size_bytes) if one.catalog.size_bytes else "",
        "packs": one.packs or "",
    }
