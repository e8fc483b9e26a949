"""`cvm repo resign`."""

from __future__ import annotations

import click

from cernvm.cli.main import Edge
from cernvm.fs.publish.repository import (
    open_storage,
    read_repository,
)
from cernvm.fs.publish.whitelisting import renew


@click.command(epilog="Example: cvm repo resign sft.cernvm.test")
@click.argument("name")
@click.pass_obj
def resign(edge: Edge, *, name: str) -> None:
    """Sign a new whitelist with the master key."""
    repository = read_repository(edge.home, name)
    whitelist = renew(repository, open_storage(repository))
    click.echo(f"the whitelist of {name} is valid until {whitelist.expires_at:%Y-%m-%d %H:%M} UTC")
