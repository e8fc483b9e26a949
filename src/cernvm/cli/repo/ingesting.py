"""`cvm repo ingest`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option
from cernvm.cli.repo.choices import (
    dry_run_option,
    message_option,
    owner_option,
    settings_option,
    tag_option,
    wait_option,
)
from cernvm.cli.repo.following import tell_published
from cernvm.cli.repo.progress import shown_progress
from cernvm.cli.repo.shown import parse_owner
from cernvm.fs.publish.ingest import Format, Ingestion, ingest
from cernvm.fs.publish.publishing import Options
from cernvm.fs.publish.repository import open_storage, read_repository
from cernvm.fs.publish.settings import with_settings

if TYPE_CHECKING:
    from cernvm.cli.repo.rehearsing import ShownRehearsal


@click.command(
    "ingest", epilog="Example: cvm repo ingest sft.cernvm.test release.tar.gz --at /v1 --strip 1"
)
@click.argument("name")
@click.argument("archive", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--at", default="/", show_default=True, metavar="PATH", help="Unpack to here.")
@click.option(
    "--format",
    "kind",
    type=click.Choice([one.value for one in Format]),
    default="auto",
    show_default=True,
    help="What ARCHIVE is, where its name and first bytes do not say it.",
)
@click.option(
    "--strip",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Leave out N leading parts of each path.",
)
@click.option("--delete", is_flag=True, help="Remove what is at PATH and not in ARCHIVE.")
@click.option("--nested", is_flag=True, help="Give PATH a catalog of its own.")
@owner_option
@click.option(
    "--python", default="", metavar="X.Y", help="Python that a wheel or conda package is for."
)
@click.option(
    "--interpreter", default="", metavar="PATH", help="What runs a package's Python scripts."
)
@click.option(
    "--prefix",
    default="",
    metavar="FOLDER",
    help="Where clients see PATH, for conda packages.  [default: /cvmfs/NAME/PATH]",
)
@click.option("--image", default="", metavar="NAME", help="Which image of an OCI layout.")
@click.option("--platform", default="", metavar="OS/ARCH", help="Which of an image's platforms.")
@tag_option
@message_option
@settings_option
@wait_option()
@dry_run_option
@json_option
@click.pass_obj
def ingest_(
    edge: Edge,
    *,
    name: str,
    archive: Path,
    at: str,
    kind: str,
    strip: int,
    delete: bool,
    nested: bool,
    owner: str,
    python: str,
    interpreter: str,
    prefix: str,
    image: str,
    platform: str,
    tag: str,
    message: str,
    chosen: Sequence[str],
    wait_s: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish what ARCHIVE holds, or the tar on standard input for -, in repository NAME."""
    repository = read_repository(edge.home, name)
    repository = dataclasses.replace(
        repository, settings=with_settings(repository.settings, chosen)
    )
    rehearsal: ShownRehearsal | None = None
    if dry_run:
        from cernvm.cli.repo.rehearsing import ShownRehearsal  # noqa: PLC0415  # all of the reader comes with it

        rehearsal = ShownRehearsal(as_json)
    options = Options(
        at=at,
        tag=tag,
        description=message,
        owner=parse_owner(owner),
        wait_s=wait_s,
        rehearse=None if rehearsal is None else rehearsal.tell,
    )
    how = Ingestion(
        Format(kind),
        strip=strip,
        deletes=delete,
        is_nested=nested,
        python=python,
        interpreter=interpreter,
        prefix=prefix,
        image=image,
        platform=platform,
    )
    source = sys.stdin.buffer if str(archive) == "-" else archive
    store, sink = open_storage(repository), None
    if repository.gateway:
        from cernvm.fs.gateway.joining import open_publication  # noqa: PLC0415  # most have none

        repository, store, sink = open_publication(repository, at)
    with shown_progress(doing="ingesting") as progress:
        published = ingest(
            repository, store, source, how, options=options, sink=sink, progress=progress
        )
    if rehearsal is not None:
        rehearsal.finish(published)
    else:
        tell_published(edge.home, repository, published, as_json=as_json)
