"""`cvm exec`: run a command that sees /cvmfs, without root and without leaving anything behind."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from pathlib import Path
from typing import Never

import click

from cernvm.cli.main import Edge
from cernvm.cli.reading import mounting_options
from cernvm.cli.trailing import TrailingCommand, trailing
from cernvm.core.errors import InvalidInputError
from cernvm.fs.api import Wanted, locate_mount
from cernvm.fs.mount.companion import serve_beside
from cernvm.fs.mount.private import cover, enter_private_namespace, show_folders

_TOP = Path("/cvmfs")
_NOT_FOUND = 127  # as shells have it
_NOT_EXECUTABLE = 126


@click.command(
    "exec",
    cls=TrailingCommand,
    options_metavar="[OPTIONS]",
    epilog="Example: cvm exec sft.cernvm.test -- /cvmfs/sft.cernvm.test/bin/evgen --events 100",
)
@click.argument("names", nargs=-1, required=True, metavar="REPOSITORY... -- COMMAND...")
@mounting_options
@click.pass_context
def exec_(ctx: click.Context, *, names: tuple[str, ...], wanted: Wanted) -> Never:
    """Run COMMAND with each REPOSITORY mounted below /cvmfs, seen by the command and its children only.

    Needs neither root nor configuration, only /dev/fuse. The command keeps its user, terminal, signals and exit status;
    the mounts end with it, however it ends.
    """
    edge: Edge = ctx.obj
    command = trailing(ctx)
    if not command:
        raise InvalidInputError(
            "there is no command to run", advice=f"cvm exec {' '.join(names)} -- COMMAND"
        )
    if len(set(names)) != len(names):
        raise InvalidInputError("a repository is named twice", advice="name each one once")
    settings = [
        locate_mount(name, edge.home, wanted, point=_TOP / name, environment=os.environ)
        for name in names
    ]
    enter_private_namespace()
    _hide_records(edge)
    show_folders(_TOP, list(names))
    serve_beside(settings, edge.home.log)
    _become(command)


def _hide_records(edge: Edge) -> None:
    """Records of mounts are this namespace's own: the same place may be mounted elsewhere too."""
    records = edge.home.run / "mounts"
    records.mkdir(parents=True, exist_ok=True)
    cover(records)


def _become(command: list[str]) -> Never:
    # Python ignores these; the command expects them as it would have had them without us.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    program = shutil.which(command[0])  # found here, since it may be one of the repository's
    if program is None and "/" not in command[0]:
        _refuse(command[0], "command not found", _NOT_FOUND)
    try:
        os.execv(program or command[0], command)  # noqa: S606  # this is what was asked for
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        status = _NOT_FOUND if is_missing else _NOT_EXECUTABLE
        _refuse(command[0], error.strerror or str(error), status)


def _refuse(program: str, reason: str, status: int) -> Never:
    click.echo(f"cvm: {shlex.quote(program)}: {reason}", err=True)
    raise SystemExit(status)
