"""`cvm remount`: show the newest revision of a mounted repository, or have a new process serve it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json
from cernvm.cli.paths import PATH
from cernvm.cli.serving import serving_command
from cernvm.core.errors import CvmError, DeadlineError, NotFoundError
from cernvm.fs.mount import MountRecord, ask, recorded_mount, resolve_point

_REMOUNT_DEADLINE_S = 130.0  # another look for a new revision may be under way
_RELOAD_DEADLINE_S = 75.0
_ARRIVAL_DEADLINE_S = 15.0
_LOOK_S = 0.02


@click.command(
    epilog="Example: cvm remount /mnt/sft     After an upgrade: cvm remount --reload /mnt/sft"
)
@click.argument("mountpoint", type=PATH)
@click.option("--reload", is_flag=True, help="Have a new process serve it; open files stay open.")
@json_option
@click.pass_obj
def remount(edge: Edge, *, mountpoint: Path, reload: bool, as_json: bool) -> None:
    """Look for a new revision of the repository mounted at MOUNTPOINT, and show it at once.

    With --reload the mount's process is replaced by one of the software that is installed now: its readers wait a
    moment and get no error.
    """
    point = resolve_point(mountpoint)
    record = recorded_mount(edge.home.run, point)
    if record is None:
        raise NotFoundError("mounted repository at", str(point), advice="cvm mount lists them")
    if reload:
        row = _reload(edge, record)
        said = f"process {row['pid']} serves {record.repository} instead of {record.process.pid}"
    else:
        row = ask(record.socket, {"ask": "remount"}, deadline_s=_REMOUNT_DEADLINE_S)
        word = "now" if row["changed"] else "still"
        said = f"{record.repository} {word} shows revision {row['revision']}"
    if as_json:
        print_json(row)
    else:
        click.echo(said)


def _reload(edge: Edge, record: MountRecord) -> dict[str, Any]:
    command = serving_command(edge, "--take-over")
    question = {"ask": "reload", "command": command}
    answer = ask(record.socket, question, deadline_s=_RELOAD_DEADLINE_S)
    end = time.monotonic() + _ARRIVAL_DEADLINE_S
    while time.monotonic() < end:
        shown = recorded_mount(edge.home.run, record.point)
        if shown is not None and shown.process.pid == answer["successor"]:
            try:
                return ask(shown.socket, {"ask": "status"}, deadline_s=_LOOK_S * 50)
            except CvmError:  # it is about to listen
                pass
        time.sleep(_LOOK_S)
    raise DeadlineError(
        "the new process to answer", after_s=_ARRIVAL_DEADLINE_S, advice="the mount's log says why"
    )
