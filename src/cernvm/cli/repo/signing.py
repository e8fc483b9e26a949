"""`cvm repo resign`."""

from __future__ import annotations

import click

from cernvm.cli.main import Edge
from cernvm.fs.publish.repository import (
    read_repository,
)
from cernvm.fs.publish.revision import renew
from cernvm.fs.store.local import LocalStore


@click.command(epilog="Example: cvm repo resign sft.cernvm.test")
@click.argument("name")
@click.pass_obj
def resign(edge: Edge, *, name: str) -> None:
    """Sign a new whitelist with the master key."""
    repository = read_repository(edge.home, name)
    whitelist = renew(repository, LocalStore(repository.storage))
    click.echo(f"the whitelist of {name} is valid until {whitelist.expires_at:%Y-%m-%d %H:%M} UTC")
