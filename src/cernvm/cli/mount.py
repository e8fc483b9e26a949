"""`cvm mount` and `cvm umount`: show a repository as a folder, and take it away."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json, print_rows
from cernvm.core import log
from cernvm.core.errors import CvmError, InvalidInputError, NotFoundError
from cernvm.core.home import Home, check_repository_name
from cernvm.core.process import read_record
from cernvm.fs.cache import CacheSettings
from cernvm.fs.client import ClientSettings
from cernvm.fs.fuse import KernelSettings
from cernvm.fs.mount import (
    LiveMount,
    MountRecord,
    MountSettings,
    ask,
    mount_repository,
    recorded_mounts,
    report_error,
    report_ready,
    resolve_point,
    start_in_background,
    take_over,
    unmount,
)
from cernvm.fs.reader import ReaderSettings
from cernvm.fs.vfs import ViewSettings
from cernvm.net import NetSettings

_FOLDER = click.Path(path_type=Path)
_RUN_CVM = "from cernvm.cli.main import main; main()"
_LISTING_DEADLINE_S = 1.0


@click.command(
    epilog="Example: cvm mount sft.cernvm.test /mnt/sft     What is mounted: cvm mount",
)
@click.argument("name", required=False)
@click.argument("mountpoint", required=False, type=_FOLDER)
@click.option("--url", default="", metavar="'URL;URL'", help="Its servers, in order.")
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    type=_FOLDER,
    metavar="FILE",
    help="A master key that may vouch for it; may be repeated.",
)
@click.option(
    "--proxy",
    default="DIRECT",
    metavar="CHAIN",
    help="Proxies, as in 'http://p1:3128|http://p2:3128;DIRECT'.",
)
@click.option("--cache", type=_FOLDER, metavar="DIR", help="[default: $CVM_HOME/cache]")
@click.option(
    "--quota-mb",
    type=click.IntRange(min=1),
    default=4000,
    show_default=True,
    help="The most that the cache may hold.",
)
@click.option(
    "--variable",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="Fills in variant symlinks; may be repeated.",
)
@click.option(
    "--reader-deadline",
    "reader_deadline_s",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="When a reader gets an error instead of data.",
)
@click.option("--foreground", is_flag=True, help="Serve in this process, until Ctrl-C.")
@click.option(
    "--holder/--no-holder", "is_held", default=True, help="Outlive the process that serves."
)
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--take-over", "taking_over", is_flag=True, hidden=True)
@json_option
@click.pass_obj
def mount(
    edge: Edge,
    *,
    name: str | None,
    mountpoint: Path | None,
    url: str,
    public_keys: tuple[Path, ...],
    proxy: str,
    cache: Path | None,
    quota_mb: int,
    variables: tuple[str, ...],
    reader_deadline_s: float,
    foreground: bool,
    is_held: bool,
    ready_fd: int | None,
    taking_over: bool,
    as_json: bool,
) -> None:
    """Show the repository NAME at the folder MOUNTPOINT; without arguments, list what is mounted.

    Returns when the mount answers. Of a repository made here (cvm repo create) the key is known, and the server while
    cvm repo serve runs.
    """
    if ready_fd is not None:
        _serve_detached(ready_fd, edge)
        return
    if taking_over:
        _take_over(edge)
        return
    if name is None:
        _list_mounts(edge, as_json=as_json)
        return
    check_repository_name(name)
    if mountpoint is None:
        raise InvalidInputError("a mount needs a folder", advice=f"cvm mount {name} /mnt/{name}")
    settings = MountSettings(
        ClientSettings(
            name,
            NetSettings(url or _known_server(edge.home, name), proxy),
            CacheSettings((cache or edge.home.cache).absolute(), quota_mb * 1_000_000),
            ReaderSettings(
                tuple(key.absolute() for key in public_keys) or _known_keys(edge.home, name)
            ),
            ViewSettings(dict(_pair(variable) for variable in variables)),
        ),
        resolve_point(mountpoint),
        edge.home.run,
        KernelSettings(reader_deadline_s),
        is_held=is_held,
    )
    if foreground:
        mount_repository(settings, ready=lambda live: _tell(_row(live), as_json=as_json))
    else:
        _tell(_start(settings, edge), as_json=as_json)


@click.command(epilog="Example: cvm umount /mnt/sft")
@click.argument("mountpoint", type=_FOLDER)
@click.option("--force", is_flag=True, help="Also while it is in use: its readers get errors.")
@click.pass_obj
def umount(edge: Edge, *, mountpoint: Path, force: bool) -> None:
    """Unmount the repository at MOUNTPOINT and end the process that served it."""
    unmount(resolve_point(mountpoint), edge.home.run, force=force)


def _start(settings: MountSettings, edge: Edge) -> dict[str, Any]:
    """Run this very command again, as a process of its own that serves."""
    return start_in_background(
        serving_command(edge),
        settings=settings.to_json(),
        log=edge.home.log / f"mount-{settings.repository}.log",
        environment={"MALLOC_ARENA_MAX": "2", **os.environ, "CVM_HOME": str(edge.home.path)},
    )


def serving_command(edge: Edge, *words: str) -> list[str]:
    """The command of a process that serves a mount."""
    level = "--debug" if edge.debug else "-v"
    return [sys.executable, "-P", "-c", _RUN_CVM, level, "mount", *words]


def _take_over(edge: Edge) -> None:
    """Serve where another process did; the standard input is the channel to the holder."""
    log.configure(level=10 if edge.debug else 20, as_json=True)
    with socket.socket(fileno=os.dup(0)) as channel, open(os.devnull, "rb") as null:
        os.set_inheritable(channel.fileno(), False)
        os.dup2(null.fileno(), 0)
        take_over(channel, successor=serving_command(edge, "--take-over"))


def _serve_detached(ready_fd: int, edge: Edge) -> None:
    """Serve what the standard input says: the other half of `_start`."""
    os.set_inheritable(ready_fd, False)
    log.configure(level=10 if edge.debug else 20, as_json=True)
    try:
        settings = MountSettings.from_json(sys.stdin.read())
        mount_repository(
            settings,
            ready=lambda live: report_ready(ready_fd, _row(live)),
            successor=serving_command(edge, "--take-over"),
        )
    except CvmError as error:
        report_error(ready_fd, error)
        raise


def _row(live: LiveMount) -> dict[str, Any]:
    record = live.record
    return {
        "repository": record.repository,
        "mountpoint": str(record.point),
        "revision": live.revision,
        "pid": record.process.pid,
    }


def _tell(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        click.echo(
            f"mounted {row['repository']} at {row['mountpoint']}, revision {row['revision']}"
        )
    sys.stdout.flush()


def _list_mounts(edge: Edge, *, as_json: bool) -> None:
    print_rows(
        (_mount_row(record) for record in recorded_mounts(edge.home.run)),
        columns=("repository", "mountpoint", "revision", "state", "pid"),
        as_json=as_json,
        headers=edge.headers,
    )


def _mount_row(record: MountRecord) -> dict[str, Any]:
    row = {
        "repository": record.repository,
        "mountpoint": str(record.point),
        "revision": None,
        "state": "recovering" if record.is_kept else "dead",
        "pid": record.process.pid,
    }
    if not record.process.is_alive:
        return row
    try:
        status = ask(record.socket, {"ask": "status"}, deadline_s=_LISTING_DEADLINE_S)
    except CvmError as error:
        return {**row, "state": f"silent: {error.what}"}
    known = {key: value for key, value in status.items() if key != "point"}
    return {**row, "state": "mounted", **known}


def _known_server(home: Home, name: str) -> str:
    """The URL under which `cvm repo serve` exports the repository now."""
    server = read_record(home.run / "repo.json")
    if server is None or not server.is_alive or not server.address:
        raise NotFoundError(
            "server known for", name, advice="name one with --url, or start: cvm repo serve"
        )
    return f"http://{server.address}/cvmfs/{name}"


def _known_keys(home: Home, name: str) -> tuple[Path, ...]:
    from cernvm.fs.publish.repository import read_repository  # noqa: PLC0415  # not for a plain client

    try:
        return (read_repository(home, name).keys.public,)
    except NotFoundError:
        raise NotFoundError(
            "public key known for", name, advice="name its file with --public-key"
        ) from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InvalidInputError(f"{text!r} is no variable", advice="write NAME=VALUE")
    return name, value
