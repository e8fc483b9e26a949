"""`cvm mount`: show a repository as a folder, or list what is shown."""

from __future__ import annotations

import functools
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cernvm.cli.completion import complete_name
from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json, print_rows
from cernvm.cli.reading import FOLDER, mounting_options
from cernvm.cli.serving import serving_command
from cernvm.core import log
from cernvm.core.errors import CvmError, InvalidInputError, NotFoundError
from cernvm.fs.api import Wanted, locate_mount
from cernvm.fs.fuse.settings import OPENINGS
from cernvm.fs.mount import (
    LiveMount,
    MountRecord,
    MountSettings,
    Report,
    Started,
    ask,
    mount_repository,
    recorded_mounts,
    resolve_point,
    start_in_background,
    take_over,
)
from cernvm.fs.mount.systemd_unit import systemd_unit
from cernvm.fs.peers.settings import said_peers

_LISTING_DEADLINE_S = 1.0


@click.command(
    epilog="Example: cvm mount sft.cernvm.test /mnt/sft     What is mounted: cvm mount",
)
@click.argument("name", required=False, shell_complete=complete_name)
@click.argument("mountpoint", required=False, type=FOLDER)
@click.option("--all", "is_all", is_flag=True, help="Mount what /etc/cvmfs lists.")
@mounting_options
@click.option(
    "--reader-deadline",
    "reader_deadline_s",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="When a reader gets an error instead of data.  [default: 30]",
)
@click.option(
    "--opening",
    type=click.Choice(OPENINGS),
    help="How the kernel opens files.  [default: auto]",
)
@click.option(
    "--peers",
    default="",
    metavar="off|zeroconf|LIST",
    help="Clients nearby to exchange objects with: ADDRESS,ADDRESS or found.  [default: off]",
)
@click.option(
    "--peers-listen",
    default="",
    metavar="ADDRESS[:PORT]",
    help="Where peers are answered.  [default: our own address of LIST]",
)
@click.option(
    "--peers-secret", type=FOLDER, metavar="FILE", help="What proves a peer to be one of ours."
)
@click.option("--foreground", is_flag=True, help="Serve in this process, until Ctrl-C.")
@click.option(
    "--holder/--no-holder", "is_held", default=True, help="Outlive the process that serves."
)
@click.option("--systemd-unit", "as_unit", is_flag=True, help="Print a unit that does all this.")
@click.option("--resend/--no-resend", "resends", default=True, hidden=True)
@click.option("--take-over", "taking_over", is_flag=True, hidden=True)
@json_option
@click.pass_obj
def mount(
    edge: Edge,
    *,
    name: str | None,
    mountpoint: Path | None,
    is_all: bool,
    wanted: Wanted,
    reader_deadline_s: float | None,
    opening: str | None,
    peers: str,
    peers_listen: str,
    peers_secret: Path | None,
    foreground: bool,
    is_held: bool,
    as_unit: bool,
    resends: bool,
    taking_over: bool,
    as_json: bool,
) -> None:
    """Show the repository NAME at the folder MOUNTPOINT; without arguments, list what is mounted.

    Returns when the mount answers. Without MOUNTPOINT it is /cvmfs/NAME. Servers and keys are those that are named
    here, else those of a repository made here (while cvm repo serve runs), else those of /etc/cvmfs.
    """
    if taking_over:
        _take_over(edge)
        return

    def settings_of(repository: str, point: Path | None) -> MountSettings:
        settings = locate_mount(repository, edge.home, wanted, point=point, environment=os.environ)
        kernel: dict[str, Any] = {"reader_deadline_s": reader_deadline_s, "opening": opening}
        given = {key: value for key, value in kernel.items() if value is not None}
        if not resends:
            given["resend"] = False
        return replace(
            settings,
            client=replace(
                settings.client,
                peers=said_peers(settings.client.peers, peers, peers_listen, peers_secret),
            ),
            kernel=replace(settings.kernel, **given),
            is_held=is_held,
        )

    if is_all and name is not None:
        raise InvalidInputError("either one repository or all", advice="leave out NAME or --all")
    if as_unit and (is_all or name is not None):
        click.echo(_unit(edge, name, None if name is None else settings_of(name, mountpoint).point))
    elif is_all:
        _mount_all(edge, lambda listed: settings_of(listed, None), as_json=as_json)
    elif name is None:
        _list_mounts(edge, as_json=as_json)
    else:
        settings = settings_of(name, None if mountpoint is None else resolve_point(mountpoint))
        if mountpoint is None:
            _make_point(settings.point)
        if foreground:
            mount_repository(settings, ready=lambda live: _tell(_row(live), as_json=as_json))
        else:
            _tell(_start(settings, edge).hear(), as_json=as_json)


def _mount_all(edge: Edge, settings_of: Callable[[str], MountSettings], *, as_json: bool) -> None:
    """Mount every configured repository that is not; one that fails keeps no other from being mounted."""
    from cernvm.fs.parameters import configured_names  # noqa: PLC0415  # not for a single mount

    names = configured_names(environment=os.environ)
    if not names:
        raise NotFoundError(
            "repository listed in", "/etc/cvmfs", advice="set CVMFS_REPOSITORIES there"
        )
    live = {record.point for record in recorded_mounts(edge.home.run) if record.process.is_alive}
    errors = []

    def begin(name: str) -> Callable[[], dict[str, Any]]:
        settings = settings_of(name)
        if settings.point in live:
            return lambda: {"repository": name, "mountpoint": str(settings.point)}
        _make_point(settings.point)
        return _start(settings, edge).hear

    def tried(name: str, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except CvmError as error:
            errors.append(error)
            return {"repository": name, "state": error.what}

    begun = [(name, tried(name, functools.partial(begin, name))) for name in names]
    rows = [
        {"state": "mounted", **(tried(name, step) if callable(step) else step)}
        for name, step in begun
    ]
    columns = ("repository", "mountpoint", "revision", "state")
    print_rows(rows, columns=columns, as_json=as_json, headers=edge.headers)
    if errors:
        raise errors[0]


def _make_point(point: Path) -> None:
    """The folder of a mount that was given none, which is nobody's but ours."""
    with suppress(OSError):  # mounting says it better
        point.mkdir(parents=True, exist_ok=True)


def _unit(edge: Edge, name: str | None, point: Path | None) -> str:
    """A unit that runs this very command, but for the option that asks for the unit."""
    program = str(Path(sys.executable).parent / "cvm")
    said = sys.argv[sys.argv.index("mount") + 1 :]
    start = [program, "mount", *(word for word in said if word != "--systemd-unit")]
    stop = [program, "umount", "--force", "--all" if point is None else str(point)]
    title = f"CernVM-FS repository {name}" if name else "CernVM-FS repositories"
    return systemd_unit(
        start,
        stop,
        description=title,
        home=edge.home.path,
        folder=Path.cwd(),
        is_root=os.geteuid() == 0,
    ).rstrip()


def _start(settings: MountSettings, edge: Edge) -> Started:
    def serve(report: Report) -> None:
        os.environ["CVM_HOME"] = str(edge.home.path)  # for those who serve after it
        mount_repository(
            settings,
            ready=lambda live: report.ready(_row(live)),
            successor=serving_command(edge, "--take-over"),
        )

    log_file = edge.home.log / f"mount-{settings.repository}.log"
    return start_in_background(serve, log_file, level=_level(edge))


def _level(edge: Edge) -> int:
    return logging.DEBUG if edge.debug else logging.INFO


def _take_over(edge: Edge) -> None:
    """Serve where another process did; the standard input is the channel to the holder."""
    log.configure(level=_level(edge), as_json=True)
    with socket.socket(fileno=os.dup(0)) as channel, open(os.devnull, "rb") as null:
        os.set_inheritable(channel.fileno(), False)
        os.dup2(null.fileno(), 0)
        take_over(channel, successor=serving_command(edge, "--take-over"))


def _row(live: LiveMount) -> dict[str, Any]:
    record = live.record
    return {
        "repository": record.repository,
        "mountpoint": str(record.point),
        "revision": live.revision,
        "pid": record.process.pid,
        "unconfirmed": live.unconfirmed,
    }


def _tell(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        click.echo(
            f"mounted {row['repository']} at {row['mountpoint']}, revision {row['revision']}"
        )
        if row["unconfirmed"]:
            click.echo(f"cvm: no server told of a newer revision: {row['unconfirmed']}", err=True)
            click.echo("  → what is in the cache can be read, all else when one answers", err=True)
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
    if record.ended:
        return {**row, "state": f"ended: {record.ended}"}
    if not record.process.is_alive:
        return row
    try:
        status = ask(record.socket, {"ask": "status"}, deadline_s=_LISTING_DEADLINE_S)
    except CvmError as error:
        return {**row, "state": f"silent: {error.what}"}
    known = {key: value for key, value in status.items() if key != "point"}
    return {**row, "state": "mounted", **known}
