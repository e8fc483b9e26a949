"""`cvm bus`: run the message bus; make its accounts."""

from __future__ import annotations

import logging
import sys
import time

import click

from cernvm.cli.main import Edge
from cernvm.core.errors import BusError
from cernvm.core.home import Home, ensure_folder, write_atomically
from cernvm.core.log import fields
from cernvm.core.process import (
    check_unrecorded,
    read_record,
    record_process,
    remove_record,
    stop_child,
)
from cernvm.messaging.prosody import BusServer, check_account_name, renew_account, start_prosody
from cernvm.net.listening import open_listener

SERVICE = "bus.json"
DEFAULT_DOMAIN = "grid.test"
FAST_DEATH_S = 10.0
FAST_DEATHS = 3

log = logging.getLogger(__name__)


@click.group(epilog="Example: cvm bus serve")
def bus() -> None:
    """Run the message bus."""


@bus.command(epilog="Example: cvm bus serve --port 5222 --domain grid.test")
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=5222,
    show_default=True,
    help="0 chooses a free one.",
)
@click.option("--domain", default="", help=f"Domain of the accounts (default: {DEFAULT_DOMAIN}).")
@click.pass_obj
def serve(edge: Edge, *, address: str, port: int, domain: str) -> None:
    """Serve the bus until it is interrupted; a server that dies is started again."""
    kept = ensure_folder(edge.home.bus, mode=0o700) / "domain"
    server = BusServer(
        edge.home.bus, domain or configured(edge.home).domain, address, port or _free_port(address)
    )
    record = edge.home.run / SERVICE
    place = f"{server.host}:{server.port}"
    check_unrecorded(record)
    child = start_prosody(server)
    deaths = 0
    try:
        write_atomically(kept, server.domain.encode())
        record_process(record, "cvm bus serve", address=place)
        click.echo(f"listening on xmpp://{place}")
        sys.stdout.flush()
        while True:
            started = time.monotonic()
            status = child.wait()
            deaths = deaths + 1 if time.monotonic() - started < FAST_DEATH_S else 1
            log.error("bus.died", extra=fields(status=status, deaths=deaths))
            if deaths >= FAST_DEATHS:
                raise BusError(
                    f"prosody keeps ending, the last time with status {status}",
                    advice=f"read {edge.home.bus / 'prosody.log'}",
                )
            child = start_prosody(server)
    finally:
        stop_child(child)
        remove_record(record)


@bus.command(epilog="Example: cvm bus account pilot")
@click.argument("name")
@click.option("--domain", default="", help="Domain of the account (default: the bus's).")
@click.pass_obj
def account(edge: Edge, name: str, *, domain: str) -> None:
    """Make an account, or give it a new password; prints its address and the file that holds the password."""
    check_account_name(name)
    server = BusServer(edge.home.bus, domain or configured(edge.home).domain)
    kept = renew_account(server, name)
    click.echo(f"{server.address_of(name)}  {kept}")


def configured(home: Home) -> BusServer:
    """The bus of this data folder: its domain, and where it listens, or would by default."""
    kept = home.bus / "domain"
    domain = kept.read_text("ascii").strip() if kept.exists() else DEFAULT_DOMAIN
    record = read_record(home.run / SERVICE)
    if record is None or not record.is_alive:
        return BusServer(home.bus, domain)
    host, _, port = record.address.rpartition(":")
    return BusServer(home.bus, domain, host, int(port))


def _free_port(address: str) -> int:
    with open_listener(address, 0) as probe:
        port: int = probe.getsockname()[1]
        return port
