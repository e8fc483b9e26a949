"""`cvm talk`: the original's commands, to a mount of ours or to any client's socket."""

from __future__ import annotations

from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.core.errors import NotFoundError, UnavailableError
from cernvm.fs.mount import MountRecord, ask, find_place, recorded_mounts
from cernvm.fs.mount.talk_client import say

_DEADLINE_S = 60.0


@click.command(
    epilog="Example: cvm talk sft.cernvm.test cache size     Another client: cvm talk --socket PATH pid",
)
@click.argument("words", nargs=-1, required=True, metavar="[NAME|PATH] COMMAND…")
@click.option(
    "--socket",
    "path",
    type=click.Path(path_type=Path),
    help="The socket of a client, ours or the original's, instead of a mount's name.",
)
@click.pass_obj
def talk(edge: Edge, *, words: tuple[str, ...], path: Path | None) -> None:
    """Say a command of the original's cvmfs_talk to the mount of NAME, or to the one that holds PATH.

    Commands: docs/formats/talk.md, such as revision, remount, cache size, host info, internal affairs.
    """
    if path is not None:
        click.echo(say(path, " ".join(words), deadline_s=_DEADLINE_S), nl=False)
        return
    record = _find(edge, words[0])
    answer = ask(
        record.socket, {"ask": "talk", "command": " ".join(words[1:])}, deadline_s=_DEADLINE_S
    )
    click.echo(answer["answer"], nl=False)


def _find(edge: Edge, name: str) -> MountRecord:
    for record in recorded_mounts(edge.home.run):
        if record.repository == name and record.process.is_alive:
            return record
    if "/" not in name:
        raise NotFoundError("mounted repository", name, advice="cvm mount lists what is mounted")
    record = find_place(Path(name), edge.home.run).record
    if not record.process.is_alive:
        raise UnavailableError(f"the process that served {record.point} is gone")
    return record
