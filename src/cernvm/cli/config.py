"""`cvm config`: what /etc/cvmfs says of a repository, and where each value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json, print_rows
from cernvm.fs.parameters import ROOT, Parameters, configured_parameters, known_parameters

_SECRET = ("PASSWORD", "SECRET", "TOKEN")

_root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(ROOT),
    show_default=True,
    help="The folder of the configuration.",
)


@click.group(epilog="Example: cvm config show atlas.cern.ch")
def config() -> None:
    """Read the configuration of CernVM-FS clients in /etc/cvmfs."""


@config.command(epilog="Example: cvm config show atlas.cern.ch --all")
@click.argument("name")
@_root_option
@click.option("--all", "show_all", is_flag=True, help="Also the values that others replaced.")
@json_option
@click.pass_obj
def show(edge: Edge, *, name: str, root: Path, show_all: bool, as_json: bool) -> None:
    """Print every parameter of the repository NAME, its value and the file and line that set it.

    Files are read in the original's order, the configuration repository among them; none is run. What should be mended
    is told on stderr.
    """
    parameters = configured_parameters(
        name, home=edge.home, environment=os.environ, root=PurePosixPath(root.absolute())
    )
    if as_json:
        print_json(_document(parameters))
        return
    for warned in parameters.warnings:
        click.echo(f"cvm: {warned}", err=True)
    for line in _lines(parameters, show_all=show_all):
        click.echo(line)
    if not parameters.settings:
        click.echo(f"cvm: nothing below {root} speaks of {name}", err=True)


@config.command(epilog="Example: cvm -H config parameters")
@json_option
@click.pass_obj
def parameters(edge: Edge, *, as_json: bool) -> None:
    """List every parameter that a client may have, and what becomes of it here."""
    print_rows(
        (
            {"parameter": known.name, "use": known.use.value, "meaning": known.text}
            for known in known_parameters().values()
        ),
        columns=("parameter", "use", "meaning"),
        as_json=as_json,
        headers=edge.headers,
    )


def _lines(found: Parameters, *, show_all: bool) -> Iterator[str]:
    for name in found:
        setting = found.settings[name]
        yield f"{name}={_shown(name, setting.value)}    # {setting.origin}"
        if show_all:
            for value, origin in reversed(setting.earlier):
                yield f"    instead of {_shown(name, value)!r}    # {origin}"


def _document(found: Parameters) -> dict[str, Any]:
    known = known_parameters()
    return {
        "repository": found.repository,
        "parameters": {
            name: {
                "value": _shown(name, found.settings[name].value),
                "origin": str(found.settings[name].origin),
                "use": known[name].use.value if name in known else "unknown",
                "earlier": [
                    {"value": _shown(name, value), "origin": str(origin)}
                    for value, origin in found.settings[name].earlier
                ],
            }
            for name in found
        },
        "keys": [place for place, _ in found.keys],
        "files": list(found.files),
        "warnings": [{"origin": str(each.origin), "what": each.what} for each in found.warnings],
    }


def _shown(name: str, value: str) -> str:
    """A value, unless its name says that it is a secret."""
    return "(hidden)" if value and any(word in name for word in _SECRET) else value
