"""`cvm repo serve`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.core.process import check_unrecorded, record_process, remove_record
from cernvm.fs.publish.repository import (
    known_repositories,
)
from cernvm.fs.publish.serving import RepositoryServer
from cernvm.fs.replicate.extras import open_extras
from cernvm.fs.replicate.replica import known_replicas

DEFAULT_PORT = 8000


@click.command(epilog="Example: cvm repo serve --port 8000")
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="0: free.",
)
@click.option(
    "--geoip",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="GeoIP database, to tell clients which servers are near them.",
)
@click.pass_obj
def serve(edge: Edge, *, address: str, port: int, geoip: Path | None) -> None:
    """Export the known repositories and replicas under /cvmfs/NAME/ over HTTP; also those that are passed through."""

    def storages() -> dict[str, str]:
        copied = {replica.name: replica.storage for replica in known_replicas(edge.home)}
        return copied | {made.name: made.storage for made in known_repositories(edge.home)}

    with (
        open_extras(edge.home, geoip) as extras,
        RepositoryServer(address, port, storages, opened=extras.opened, beside=extras) as server,
    ):
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
