"""`cvm repo serve`."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.repo.choices import address_option, port_option
from cernvm.core.errors import ConfigError, InvalidInputError
from cernvm.core.process import check_unrecorded, record_process, remove_record
from cernvm.fs.publish.serving import RepositoryServer
from cernvm.fs.replicate.extras import open_extras
from cernvm.fs.replicate.serving import known_storages

DEFAULT_PORT = 8000


@click.command(epilog="Example: cvm repo serve --port 8000")
@address_option
@port_option(DEFAULT_PORT)
@click.option(
    "--geoip",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="GeoIP database, to tell clients which servers are near them.",
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Speak HTTPS, with this chain of certificates.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The certificate's private key, where it is not in the same file.",
)
@click.pass_obj
def serve(
    edge: Edge,
    *,
    address: str,
    port: int,
    geoip: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Export the known repositories and replicas under /cvmfs/NAME/ over HTTP; also those that are passed through."""
    if key is not None and certificate is None:
        raise InvalidInputError("--key belongs to --certificate")
    tls = None if certificate is None else _tls(certificate, key)
    with (
        open_extras(edge.home, geoip) as extras,
        RepositoryServer(
            address,
            port,
            lambda: known_storages(edge.home),
            opened=extras.opened,
            beside=extras,
            tls=tls,
        ) as server,
    ):
        place = f"{address}:{server.port}"
        record = edge.home.run / "repo.json"
        check_unrecorded(record)
        record_process(record, "cvm repo serve", address=place)
        try:
            click.echo(f"listening on {'http' if tls is None else 'https'}://{place}")
            sys.stdout.flush()
            server.serve_forever(poll_interval=0.2)
        finally:
            remove_record(record)


def _tls(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as exc:  # an SSLError is an OSError
        raise ConfigError(f"no certificate with its key: {exc}", source=str(certificate)) from None
    return context
