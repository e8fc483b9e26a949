"""`cvm repo gateway`: several publishers of one repository."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from cernvm.cli.lazy import LazyGroup, Words
from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json, print_rows
from cernvm.cli.repo.choices import address_option, port_option
from cernvm.cli.repo.shown import print_fields
from cernvm.core.clock import SystemClock
from cernvm.core.errors import NotFoundError
from cernvm.core.process import check_unrecorded, record_process, remove_record
from cernvm.core.units import format_seconds
from cernvm.fs.gateway.access import Key
from cernvm.fs.gateway.book import LeaseBook
from cernvm.fs.gateway.joining import join_repository, leave_repository
from cernvm.fs.gateway.lease import LeasePath, parse_lease_path
from cernvm.fs.gateway.server import DEFAULT_PORT, GatewayServer
from cernvm.fs.gateway.service import TTL_S, book_path, key_folder, open_gateway
from cernvm.fs.publish.publishing import parse_path
from cernvm.fs.publish.repository import read_repository
from cernvm.fs.store.opening import location_of

_HERE = "cernvm.cli.repo.gateway"
WORDS: Words = {
    "Where the repository is kept": {
        "serve": (f"{_HERE}:serve", "Let others publish through here."),
        "keys": (f"{_HERE}:keys", "List who may publish what."),
        "add-key": (f"{_HERE}:add_key", "Let somebody publish below a path."),
        "remove-key": (f"{_HERE}:remove_key", "Let somebody publish no more."),
        "leases": (f"{_HERE}:leases", "List who publishes at present."),
        "cancel": (f"{_HERE}:cancel", "Take leases away."),
    },
    "Where somebody publishes": {
        "join": (f"{_HERE}:join", "Publish a repository that is kept elsewhere."),
        "leave": (f"{_HERE}:leave", "Publish it no more."),
    },
}


@click.group(cls=LazyGroup, words=WORDS, epilog="Example: cvm repo gateway serve")
def gateway() -> None:
    """Let several publishers work on one repository, each below a path that is leased to them."""


@click.command(epilog="Example: cvm repo gateway serve --address 0.0.0.0")
@address_option
@port_option(DEFAULT_PORT)
@click.option(
    "--lease-time",
    type=click.IntRange(1, 7 * 86400),
    default=TTL_S,
    show_default=True,
    metavar="S",
    help="How long a lease lasts that nobody refreshes, at most.",
)
@click.pass_obj
def serve(edge: Edge, *, address: str, port: int, lease_time: int) -> None:
    """Give leases on the known repositories, take what is published under them, and merge it."""
    served = open_gateway(edge.home, ttl_s=lease_time)
    try:
        with GatewayServer(address, port, served) as server:
            place = f"{address}:{server.port}"
            record = edge.home.run / "gateway.json"
            check_unrecorded(record)
            record_process(record, "cvm repo gateway serve", address=place)
            try:
                click.echo(f"listening on http://{place}/api/v1")
                sys.stdout.flush()
                server.serve_forever(poll_interval=0.2)
            finally:
                remove_record(record)
    finally:
        served.book.close()


@click.command(epilog="Example: cvm repo gateway keys sft.cernvm.test")
@click.argument("name", default="")
@json_option
@click.pass_obj
def keys(edge: Edge, *, name: str, as_json: bool) -> None:
    """List the keys, or those of repository NAME; never the secrets."""
    rows = [
        row
        for key in key_folder(edge.home).all()
        for row in _key_rows(key)
        if name in ("", row["repository"])
    ]
    print_rows(rows, columns=("key", "repository", "path", "admin", "strict"), as_json=as_json)


@click.command("add-key", epilog="Example: cvm repo gateway add-key sft.cernvm.test --path /atlas")
@click.argument("name")
@click.option("--path", default="/", show_default=True, help="It may publish at and below this.")
@click.option("--key", "key_id", default="", metavar="ID", help="Its name; made, if not given.")
@click.option("--admin", is_flag=True, help="It may also take others' leases away.")
@click.option(
    "--strict",
    is_flag=True,
    help="Requests must be signed whole; not for the original's publishers.",
)
@json_option
@click.pass_obj
def add_key(
    edge: Edge, *, name: str, path: str, key_id: str, admin: bool, strict: bool, as_json: bool
) -> None:
    """Make a key with which somebody may publish repository NAME; give them the file that is shown."""
    read_repository(edge.home, name)
    folder = key_folder(edge.home)
    key = folder.add(
        LeasePath(name, parse_path(path)), key_id=key_id, is_admin=admin, is_strict=strict
    )
    row: dict[str, object] = {
        "key": key.id,
        "repository": name,
        "path": path,
        "file": str(folder.file(key.id)),
    }
    print_fields(row, as_json=as_json)


@click.command("remove-key", epilog="Example: cvm repo gateway remove-key sft.cernvm.test-1a2b3c4d")
@click.argument("key_id", metavar="ID")
@click.pass_obj
def remove_key(edge: Edge, *, key_id: str) -> None:
    """Delete key ID: whoever has a copy can publish no more."""
    key_folder(edge.home).remove(key_id)
    click.echo(f"removed {key_id}")


@click.command(epilog="Example: cvm repo gateway leases --json")
@click.argument("name", default="")
@json_option
@click.pass_obj
def leases(edge: Edge, *, name: str, as_json: bool) -> None:
    """List the open leases, or those on repository NAME."""
    now = SystemClock().now()
    rows: list[dict[str, object]] = []
    if book_path(edge.home).exists():
        book = LeaseBook(book_path(edge.home))
        try:
            rows = [
                {
                    "path": str(lease.path),
                    "key": lease.key_id,
                    "host": lease.hostname,
                    "opened_at": f"{lease.opened_at:%Y-%m-%dT%H:%M:%SZ}",
                    "ends_in_s": round(lease.left_s(now)),
                }
                for lease in book.leases(name or None)
            ]
        finally:
            book.close()
    columns = ("path", "key", "host", "opened_at", "ends_in_s")
    print_rows(rows, columns=columns, as_json=as_json)


@click.command(epilog="Example: cvm repo gateway cancel sft.cernvm.test/atlas")
@click.argument("path")
@json_option
@click.pass_obj
def cancel(edge: Edge, *, path: str, as_json: bool) -> None:
    """Take away the leases at and below PATH (NAME/some/path); their holders' work is refused then."""
    wanted = parse_lease_path(path)
    taken = []
    if book_path(edge.home).exists():
        book = LeaseBook(book_path(edge.home))
        try:
            taken = book.cancel_below(wanted)
        finally:
            book.close()
    if not taken:
        raise NotFoundError("lease at or below", path)
    if as_json:
        print_json([str(lease.path) for lease in taken])
        return
    now = SystemClock().now()
    for lease in taken:
        left = format_seconds(max(0.0, lease.left_s(now)))
        click.echo(f"cancelled {lease.path} of {lease.key_id}, which had {left} left")


@click.command(
    epilog="Example: cvm repo gateway join sft.cernvm.test --gateway http://gw:4929/api/v1 "
    "--url http://gw:8000/cvmfs/sft.cernvm.test --key ./sft.gw --public-key ./sft.pub"
)
@click.argument("name")
@click.option("--gateway", "url", required=True, metavar="URL", help="Where its gateway listens.")
@click.option("--url", "public", required=True, metavar="URL", help="Where readers find it.")
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    help="The key file that you were given.",
)
@click.option(
    "--public-key",
    required=True,
    type=click.Path(path_type=Path),
    help="By which the repository is trusted.",
)
@click.option(
    "--store", default="", metavar="PLACE", help="Its storage, to put objects there from here."
)
@click.option(
    "--store-config",
    type=click.Path(path_type=Path),
    help="Private file with what the storage wants besides.",
)
@json_option
@click.pass_obj
def join(
    edge: Edge,
    *,
    name: str,
    url: str,
    public: str,
    key: Path,
    public_key: Path,
    store: str,
    store_config: Path | None,
    as_json: bool,
) -> None:
    """Publish repository NAME from here, through its gateway; its other keys stay where they are."""
    joined = join_repository(
        edge.home,
        name,
        gateway=url,
        public=public,
        key_file=key,
        public_key=public_key,
        objects=location_of(store, config=store_config, name=name) if store else "",
    )
    row: dict[str, object] = {
        "name": name,
        "gateway": joined.gateway,
        "url": joined.storage,
        "hash": joined.algorithm.value,
    }
    print_fields(row, as_json=as_json)


@click.command(epilog="Example: cvm repo gateway leave sft.cernvm.test")
@click.argument("name")
@click.pass_obj
def leave(edge: Edge, *, name: str) -> None:
    """Forget repository NAME, which is kept elsewhere, and the key for its gateway."""
    leave_repository(edge.home, name)
    click.echo(f"left {name}")


def _key_rows(key: Key) -> list[dict[str, object]]:
    return [
        {
            "key": key.id,
            "repository": name,
            "path": os.fsdecode(path) or "/",
            "admin": key.is_admin,
            "strict": key.is_strict,
        }
        for name, path in sorted(key.paths.items())
    ]
