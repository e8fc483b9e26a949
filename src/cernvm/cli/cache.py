"""`cvm cache`: what the cache holds, whether it is sound, and what is to stay in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from cernvm.cli.completion import complete_target
from cernvm.cli.fs import Target, TargetType
from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json, print_rows
from cernvm.cli.reading import FOLDER, reading_options
from cernvm.core.errors import InvalidInputError, NotFoundError, ObjectFormatError
from cernvm.core.units import format_bytes
from cernvm.fs.api import OpenRepository, Wanted, locate
from cernvm.fs.cache import NO_QUOTA, ContentKey, DiskCache

_KEPT_AT_ONCE = 200

_folder_option = click.option(
    "--cache", "folder", type=FOLDER, metavar="DIR", help="[default: $CVM_HOME/cache]"
)
_target = click.argument(
    "target", type=TargetType(), metavar="REPOSITORY:/PATH", shell_complete=complete_target
)


@click.group(epilog="Example: cvm cache usage")
def cache() -> None:
    """See what the cache holds, check it, clean it, and keep in it what is needed offline.

    All of this may be done while repositories are mounted.
    """


@cache.command(epilog="Example: cvm cache usage --json")
@_folder_option
@json_option
@click.pass_obj
def usage(edge: Edge, *, folder: Path | None, as_json: bool) -> None:
    """Tell how full the cache is, and of what."""
    with _opened(edge, folder) as (store, path):
        found = store.summary()
        free_bytes = store.free_bytes
        processes = store.processes - 1
    if as_json:
        ranks = {rank.name.lower(): asdict(count) for rank, count in found.by_rank.items()}
        kept = {label: asdict(count) for label, count in found.kept.items()}
        print_json(
            {
                "folder": path,
                "objects": found.all.objects,
                "size_bytes": found.all.size_bytes,
                "by_rank": ranks,
                "pinned": asdict(found.pinned),
                "kept": kept,
                "deleted_and_open_bytes": found.ghost_bytes,
                "free_bytes": free_bytes,
                "processes": processes,
            }
        )
        return
    click.echo(f"{path}, used by {processes} {'process' if processes == 1 else 'processes'}")
    rows = [("all", found.all), *((r.name.lower(), n) for r, n in found.by_rank.items())]
    rows += [("pinned", found.pinned), *((f"kept {name}", n) for name, n in found.kept.items())]
    for name, count in rows:
        click.echo(f"  {name:<12} {count.objects} objects, {format_bytes(count.size_bytes)}")
    if found.ghost_bytes:
        click.echo(f"  deleted, still open: {format_bytes(found.ghost_bytes)}")
    click.echo(f"  {format_bytes(free_bytes)} are free on its partition")


@cache.command("ls", epilog="Example: cvm -H cache ls | sort -k 2 -n | tail")
@_folder_option
@json_option
@click.pass_obj
def ls_command(edge: Edge, *, folder: Path | None, as_json: bool) -> None:
    """List the objects in the cache, by digest."""
    with _opened(edge, folder) as (store, _):
        rows = [
            {"name": name.replace("/", ""), "size": row.size_bytes, "rank": row.rank.name.lower()}
            for name, row in store.objects()
        ]
    print_rows(rows, columns=("name", "size", "rank"), as_json=as_json, headers=edge.headers)


@cache.command(epilog="Example: cvm cache check --repair")
@_folder_option
@click.option("--repair", is_flag=True, help="Remove what is damaged; it is fetched again.")
@click.option(
    "--quarantine", type=FOLDER, metavar="DIR", help="Copy what is damaged there; with --repair."
)
@json_option
@click.pass_obj
def check(
    edge: Edge, *, folder: Path | None, repair: bool, quarantine: Path | None, as_json: bool
) -> None:
    """Read all content and compare it with the checksums taken when it was verified.

    Ends with status 52 when something is damaged and was not repaired.
    """
    if quarantine is not None and not repair:
        raise InvalidInputError("--quarantine goes with --repair", advice="add --repair")
    with _opened(edge, folder) as (store, path):
        found = store.check(quarantine=quarantine, repair=repair)
    if as_json:
        print_json({"folder": path, **asdict(found), "repaired": repair})
    else:
        click.echo(
            f"{found.objects} objects, {format_bytes(found.size_bytes)}: {len(found.damaged)} damaged"
        )
        if found.unrecorded:
            click.echo(f"{found.unrecorded} had no checksum and have one from now on")
        for name in found.damaged:
            click.echo(f"  damaged: {name}{', removed' if repair else ''}")
    if found.damaged and not repair:
        raise ObjectFormatError(
            f"{len(found.damaged)} cached objects are damaged",
            where=str(path),
            advice="cvm cache check --repair removes them; mounts fetch them again",
        )


@cache.command(epilog="Example: cvm cache clean --to-mb 1000")
@_folder_option
@click.option(
    "--to-mb", type=click.IntRange(min=0), default=0, show_default=True, help="What may stay."
)
@json_option
@click.pass_obj
def clean(edge: Edge, *, folder: Path | None, to_mb: int, as_json: bool) -> None:
    """Remove what was used longest ago, until only so much is left.

    What is pinned stays: the catalogs of mounts, and what cvm cache pin keeps.
    """
    with _opened(edge, folder) as (store, path):
        before = store.summary().all
        store.clean(to_mb * 1_000_000)
        after = store.summary().all
    gone = {
        "folder": path,
        "removed_objects": before.objects - after.objects,
        "removed_bytes": before.size_bytes - after.size_bytes,
        "size_bytes": after.size_bytes,
    }
    if as_json:
        print_json(gone)
        return
    click.echo(
        f"removed {gone['removed_objects']} objects, {format_bytes(before.size_bytes - after.size_bytes)}; "
        f"{format_bytes(after.size_bytes)} are left"
    )


@cache.command(epilog="Example: cvm cache pin sft.cernvm.test:/bin")
@_target
@json_option
@reading_options
@click.pass_obj
def pin(edge: Edge, *, target: Target, as_json: bool, wanted: Wanted) -> None:
    """Fetch a file, or a directory with all below it, and keep it in the cache until it is unpinned.

    It is kept as it is in this revision, and can be read without a network. Pin it again to keep what is newer too.
    """
    from cernvm.cli.progress import counting  # noqa: PLC0415  # rich takes its time
    from cernvm.fs.api.keeping import fetch_whole  # noqa: PLC0415  # for this command only

    settings = locate(target.name, edge.home, wanted, environment=os.environ)
    if settings.cache.kind != "disk":
        raise InvalidInputError(
            "only a cache on disk can keep content", advice="leave out --cache-kind"
        )
    keys: set[ContentKey] = set()
    size_bytes = 0
    with (
        OpenRepository(settings) as repository,
        DiskCache(settings.cache.folder, quota_bytes=NO_QUOTA) as store,
        counting("kept") as count,
    ):
        waiting: list[ContentKey] = []
        for key, key_bytes in fetch_whole(repository, target.path):
            if key in keys:
                continue
            keys.add(key)
            size_bytes += key_bytes
            waiting.append(key)
            count(len(keys), size_bytes)
            if len(waiting) >= _KEPT_AT_ONCE:
                store.keep(str(target), waiting)
                waiting = []
        store.keep(str(target), waiting)
    if as_json:
        print_json({"kept": str(target), "objects": len(keys), "size_bytes": size_bytes})
    else:
        click.echo(f"kept {target}: {len(keys)} objects, {format_bytes(size_bytes)} of files")


@cache.command(epilog="Example: cvm cache unpin sft.cernvm.test:/bin")
@_target
@_folder_option
@click.pass_obj
def unpin(edge: Edge, *, target: Target, folder: Path | None) -> None:
    """Let what cvm cache pin has kept be removed when room is needed."""
    with _opened(edge, folder) as (store, _):
        objects = store.release(str(target))
        kept = store.summary().kept
    if not objects:
        raise NotFoundError(
            "pin of", str(target), advice=f"pinned are: {', '.join(kept) or 'none'}"
        )
    click.echo(f"let go of {objects} objects")


@contextmanager
def _opened(edge: Edge, folder: Path | None) -> Iterator[tuple[DiskCache, Path]]:
    path = (folder or edge.home.cache).absolute()
    if not (path / "index").exists():
        raise NotFoundError(
            "cache",
            str(path),
            advice="it comes into being with the first mount; or name it with --cache",
        )
    with DiskCache(path, quota_bytes=NO_QUOTA) as store:
        yield store, path
