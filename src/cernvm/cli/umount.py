"""`cvm umount`: take a mounted repository away."""

from __future__ import annotations

from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.paths import PATH
from cernvm.core.errors import CvmError, InvalidInputError
from cernvm.fs.mount import recorded_mounts, resolve_point, unmount


@click.command(epilog="Example: cvm umount /mnt/sft")
@click.argument("mountpoint", required=False, type=PATH)
@click.option("--all", "is_all", is_flag=True, help="All that cvm mount lists.")
@click.option("--force", is_flag=True, help="Also while it is in use: its readers get errors.")
@click.pass_obj
def umount(edge: Edge, *, mountpoint: Path | None, is_all: bool, force: bool) -> None:
    """Unmount the repository at MOUNTPOINT and end the process that served it."""
    if is_all == (mountpoint is not None):
        raise InvalidInputError("name what to unmount", advice="cvm umount MOUNTPOINT, or --all")
    if mountpoint is not None:
        unmount(resolve_point(mountpoint), edge.home.run, force=force)
        return
    failed: CvmError | None = None
    for record in recorded_mounts(edge.home.run):
        try:
            unmount(record.point, edge.home.run, force=force)
        except CvmError as error:
            click.echo(f"cvm: {record.repository}: {error.what}", err=True)
            failed = error
    if failed is not None:
        raise failed
