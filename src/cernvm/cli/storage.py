"""`cvm storage`: run the storage service; list, inspect and fetch what it keeps."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json, print_rows
from cernvm.core.clock import SystemClock
from cernvm.core.errors import HostError
from cernvm.core.home import Home
from cernvm.core.process import check_unrecorded, read_record, record_process, remove_record
from cernvm.core.units import format_bytes
from cernvm.net.listening import open_listener
from cernvm.storage import Capability, Stat, StorageClient, mint_token
from cernvm.storage.key import load_key
from cernvm.storage.port import check_object_path

SERVICE = "storage.json"
TOKEN_LIFE_S = 600

url_option = click.option(
    "--url", default="", metavar="URL", help="The service (default: the one that runs here)."
)


@click.group(epilog="Example: cvm storage ls jobs")
def storage() -> None:
    """Run the storage service; list and fetch outputs."""


@storage.command(epilog="Example: cvm storage serve --port 8443 --data /srv/outputs")
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8010,
    show_default=True,
    help="0 chooses a free one.",
)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the objects.")
@click.pass_obj
def serve(edge: Edge, *, address: str, port: int, data: Path | None) -> None:
    """Serve the storage over HTTP until it is interrupted."""
    from cernvm.storage.disk import DiskStorage  # noqa: PLC0415  # the web server's weight
    from cernvm.storage.service import serve_storage  # noqa: PLC0415

    record = edge.home.run / SERVICE
    check_unrecorded(record)
    key = load_key(key_file(edge.home))
    listening = open_listener(address, port)
    kept = DiskStorage(data or edge.home.outputs)
    place = "{}:{}".format(*listening.getsockname()[:2])

    def announce() -> None:
        record_process(record, "cvm storage serve", address=place)
        click.echo(f"listening on http://{place}")
        sys.stdout.flush()

    try:
        asyncio.run(serve_storage(kept, key, listening, on_ready=announce))
    finally:
        remove_record(record)
        listening.close()
        kept.close()


@storage.command("ls", epilog="Example: cvm storage ls jobs --json")
@click.argument("prefix", default="")
@url_option
@json_option
@click.pass_obj
def ls(edge: Edge, prefix: str, *, url: str, as_json: bool) -> None:
    """List the objects below PREFIX."""

    def row(stat: Stat) -> dict[str, object]:
        size = stat.size_bytes if as_json else format_bytes(stat.size_bytes)
        return {
            "path": stat.path,
            "size_bytes" if as_json else "size": size,
            "sha256": stat.sha256,
            "stored_at": stat.stored_at.isoformat(timespec="seconds"),
        }

    rows = [row(stat) for stat in connect(edge.home, url).list(prefix.strip("/"))]
    print_rows(rows, columns=["path", "size", "stored_at"], as_json=as_json)


@storage.command("stat", epilog="Example: cvm storage stat jobs/ID/1/NAME --verify")
@click.argument("path")
@click.option("--verify", is_flag=True, help="Read the content again and check it.")
@url_option
@json_option
@click.pass_obj
def stat(edge: Edge, path: str, *, verify: bool, url: str, as_json: bool) -> None:
    """Show an object's size and checksum."""
    found = connect(edge.home, url).stat(path, verify=verify)
    row = {
        "path": found.path,
        "size_bytes": found.size_bytes,
        "sha256": found.sha256,
        "stored_at": found.stored_at.isoformat(),
    }
    if as_json:
        print_json(row)
        return
    for name, value in row.items():
        click.echo(f"{name:12}{value}")


@storage.command("get", epilog="Example: cvm storage get jobs/ID/1/NAME --output NAME")
@click.argument("path")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="File to write, or a folder (default: the name, here).",
)
@url_option
@click.pass_obj
def get(edge: Edge, path: str, *, output: Path | None, url: str) -> None:
    """Fetch an object into a file, checked."""
    name = check_object_path(path).rpartition("/")[2]
    target = output / name if output and output.is_dir() else output or Path(name)
    partial = target.with_name(f".{target.name}.part")
    try:
        with partial.open("wb") as file:
            for block in connect(edge.home, url).get(path):
                file.write(block)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    click.echo(target)


def connect(home: Home, url: str = "") -> StorageClient:
    """The storage with an operator's token: everything may be read, for ten minutes."""
    until = int(SystemClock().now().timestamp()) + TOKEN_LIFE_S
    token = mint_token(load_key(key_file(home)), Capability("", ("GET", "HEAD"), until, 0, "cli"))
    return StorageClient(url or running_url(home), token)


def running_url(home: Home) -> str:
    """The URL of the storage service that runs on this machine."""
    record = read_record(home.run / SERVICE)
    if record is None or not record.is_alive:
        raise HostError(
            "storage", "no storage service runs here", advice="start one: cvm storage serve"
        )
    return f"http://{record.address}"


def key_file(home: Home) -> Path:
    """Where the key lies that the storage and the job agent share."""
    return home.path / "storage.key"
