"""`cvm fs`: look into repositories and copy out of them, without any mount."""

from __future__ import annotations

import fnmatch
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cernvm.cli.completion import complete_name, complete_target
from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json, print_rows, printable
from cernvm.cli.reading import FOLDER, reading_options
from cernvm.core.errors import InvalidInputError
from cernvm.core.units import format_bytes
from cernvm.fs.api import Files, OpenRepository, Wanted, locate
from cernvm.fs.vfs import Attributes

_PART_BYTES = 4 << 20
_KINDS = {"f": stat.S_ISREG, "d": stat.S_ISDIR, "l": stat.S_ISLNK}
_KIND_NAMES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A path of a repository, as people write it."""

    name: str
    path: bytes

    def __str__(self) -> str:
        return f"{self.name}:{_text(self.path)}"


class TargetType(click.ParamType[Target]):
    """`NAME:/PATH`, `NAME`, `cvmfs://NAME/PATH` and `/cvmfs/NAME/PATH` all name the same."""

    name = "target"

    def convert(self, value: Any, _param: Any, _ctx: Any) -> Target:
        if isinstance(value, Target):
            return value
        text = str(value)
        for prefix in ("cvmfs://", "/cvmfs/"):
            if text.startswith(prefix):
                name, _, path = text.removeprefix(prefix).partition("/")
                return Target(name, os.fsencode("/" + path))
        name, colon, path = text.partition(":")
        if colon and not path.startswith("/"):
            raise InvalidInputError(
                f"{text!r} names no file", advice=f"write {name}:/PATH, from the root on"
            )
        return Target(name, os.fsencode(path or "/"))


_target = click.argument(
    "target", type=TargetType(), metavar="REPOSITORY:/PATH", shell_complete=complete_target
)
_targets = click.argument(
    "targets",
    type=TargetType(),
    nargs=-1,
    required=True,
    metavar="REPOSITORY:/PATH...",
    shell_complete=complete_target,
)


@click.group(epilog="Example: cvm fs ls sft.cernvm.test:/share")
def fs() -> None:
    """Look into repositories and copy out of them, without any mount.

    A file is named REPOSITORY:/PATH; cvmfs://REPOSITORY/PATH and /cvmfs/REPOSITORY/PATH mean the same.
    """


@fs.command(epilog="Example: cvm fs ls -l sft.cernvm.test:/bin")
@_targets
@click.option("-l", "--long", "is_long", is_flag=True, help="Mode, owner, size and time too.")
@json_option
@reading_options
@click.pass_obj
def ls(
    edge: Edge, *, targets: tuple[Target, ...], is_long: bool, as_json: bool, wanted: Wanted
) -> None:
    """List directories, or single files."""
    rows = []
    for target in targets:
        with _opened(edge, target, wanted) as files:
            if stat.S_ISDIR(files.attributes(target.path).mode):
                below = target.path.rstrip(b"/") + b"/"
                found = [(item.name, below + item.name) for item in files.listing(target.path)]
            else:
                found = [(target.path, target.path)]
            rows += [_row(files, path, shown=name) for name, path in found]
    columns = ("mode", "uid", "gid", "size", "mtime", "shown") if is_long else ("shown",)
    print_rows(rows, columns=columns, as_json=as_json, headers=edge.headers)


@fs.command(epilog="Example: cvm fs cat sft.cernvm.test:/share/README | less")
@_targets
@reading_options
@click.pass_obj
def cat(edge: Edge, *, targets: tuple[Target, ...], wanted: Wanted) -> None:
    """Print files."""
    output = sys.stdout.buffer
    for target in targets:
        with _opened(edge, target, wanted) as files:
            file = files.open(target.path)
            try:
                offset = 0
                while data := file.read(offset, _PART_BYTES):
                    output.write(data)
                    offset += len(data)
            finally:
                file.close()
    output.flush()


@fs.command(epilog="Example: cvm fs cp -r sft.cernvm.test:/share/Pythia8 .")
@_targets
@click.argument("destination", type=FOLDER)
@click.option("-r", "--recursive", is_flag=True, help="Also directories, with all below them.")
@json_option
@reading_options
@click.pass_obj
def cp(
    edge: Edge,
    *,
    targets: tuple[Target, ...],
    destination: Path,
    recursive: bool,
    as_json: bool,
    wanted: Wanted,
) -> None:
    """Copy files out.

    They go to DESTINATION on this machine: into it where it is a folder, else to that name.
    Many files are fetched at once. Times and links stay; what is copied is yours.
    """
    from cernvm.cli.progress import counting  # noqa: PLC0415  # rich takes its time

    if len(targets) > 1 and not destination.is_dir():
        raise InvalidInputError(
            f"{destination} is no folder", advice="several files need a folder to go to"
        )
    names, size_bytes = 0, 0
    with counting("copied") as count:
        for target in targets:
            for copied in _copied(edge, target, destination, wanted, recursive=recursive):
                names, size_bytes = names + 1, size_bytes + copied.size_bytes
                count(names, size_bytes)
    if as_json:
        print_json({"names": names, "size_bytes": size_bytes, "destination": destination})
    else:
        click.echo(f"copied {names} names, {format_bytes(size_bytes)}, to {destination}")


@fs.command(epilog="Example: cvm fs tree --depth 2 sft.cernvm.test:/")
@_target
@click.option("-L", "--depth", type=click.IntRange(min=1), default=3, show_default=True)
@json_option
@reading_options
@click.pass_obj
def tree(edge: Edge, *, target: Target, depth: int, as_json: bool, wanted: Wanted) -> None:
    """Show a directory and what is below it as a tree."""
    with _opened(edge, target, wanted) as files:
        if as_json:
            print_json([_row(files, path) for path, _ in _walk(files, target.path, depth)])
            return
        click.echo(_text(target.path))
        for line in _branches(files, target.path.rstrip(b"/"), "", depth):
            click.echo(line)


@fs.command(epilog="Example: cvm fs find sft.cernvm.test:/ --name 'lib*.so' --type f")
@_target
@click.option("--name", "pattern", default="*", metavar="PATTERN", help="Only such names.")
@click.option("--type", "kind", type=click.Choice(["f", "d", "l"]), help="Only that kind.")
@click.option("--depth", type=click.IntRange(min=1), default=None, help="Not further down.")
@json_option
@reading_options
@click.pass_obj
def find(
    edge: Edge,
    *,
    target: Target,
    pattern: str,
    kind: str | None,
    depth: int | None,
    as_json: bool,
    wanted: Wanted,
) -> None:
    """Find names below a directory; reads catalogs only."""
    with _opened(edge, target, wanted) as files:
        found = (
            (path, attributes)
            for path, attributes in _walk(files, target.path, depth)
            if fnmatch.fnmatchcase(_text(path.rpartition(b"/")[2]), pattern)
            and (kind is None or _KINDS[kind](attributes.mode))
        )
        if as_json:
            print_json([_row(files, path) for path, _ in found])
            return
        for path, _ in found:
            click.echo(_printable(path))


@fs.command(name="stat", epilog="Example: cvm fs stat sft.cernvm.test:/bin/evgen")
@_target
@json_option
@reading_options
@click.pass_obj
def stat_(edge: Edge, *, target: Target, as_json: bool, wanted: Wanted) -> None:
    """Tell all that is known of one path.

    What it is, and of which objects it is made.
    """
    with _opened(edge, target, wanted) as files:
        row = _row(files, target.path)
        repository = files.view.repository
        row["repository"] = files.name
        row["revision"] = repository.revision.number
        if row["kind"] != "symlink":
            found = files.xattrs(target.path).items()
            row["xattrs"] = [{"name": _text(name), "value": _text(value)} for name, value in found]
        why = files.view.why(target.path)
        row["catalogs"] = [str(state.digest) for state in why.catalogs]
        row["objects"] = [
            {
                "object": state.object_path,
                "size_bytes": state.size_bytes,
                "cached": state.is_cached,
            }
            for state in why.objects
        ]
    if as_json:
        print_json(row)
        return
    for key, value in row.items():
        for part in value if isinstance(value, list) else [value]:
            shown = _said(part)
            if shown:
                click.echo(f"{key:<11} {_printable(os.fsencode(shown))}")


def _said(part: Any) -> str:
    """One value of `fs stat`, as people read it."""
    if not isinstance(part, dict):
        return str(part)
    if "cached" in part:
        where = "in the cache" if part["cached"] else "not in the cache"
        return f"{part['object']}, {format_bytes(part['size_bytes'])}, {where}"
    return f"{part['name']} {part['value']}"


@fs.command(epilog="Example: cvm -H fs tags sft.cernvm.test")
@click.argument("name", shell_complete=complete_name)
@json_option
@reading_options
@click.pass_obj
def tags(edge: Edge, *, name: str, as_json: bool, wanted: Wanted) -> None:
    """List the tags of a repository.

    The newest first: what --tag, --revision and --at can hold.
    """
    with OpenRepository(locate(name, edge.home, wanted, environment=os.environ)) as repository:
        rows = [
            {
                "name": tag.name,
                "revision": tag.revision,
                "tagged": tag.tagged_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "branch": tag.branch,
                "root_hash": str(tag.root_catalog),
                "description": tag.description,
            }
            for tag in repository.tags()
        ]
    print_rows(
        rows,
        columns=("name", "revision", "tagged", "root_hash", "description"),
        as_json=as_json,
        headers=edge.headers,
    )


@contextmanager
def _opened(edge: Edge, target: Target, wanted: Wanted) -> Iterator[Files]:
    settings = locate(target.name, edge.home, wanted, environment=os.environ)
    with OpenRepository(settings) as repository:
        yield repository.files


def _copied(
    edge: Edge, target: Target, destination: Path, wanted: Wanted, *, recursive: bool
) -> Iterator[Any]:
    from cernvm.fs.api.copying import copy_out  # noqa: PLC0415  # for this command only

    with _opened(edge, target, wanted) as files:
        name = files.resolved(target.path).rpartition(b"/")[2] or os.fsencode(target.name)
        place = destination / os.fsdecode(name) if destination.is_dir() else destination
        yield from copy_out(files, target.path, place, recursive=recursive)


def _walk(files: Files, path: bytes, depth: int | None) -> Iterator[tuple[bytes, Attributes]]:
    levels = [(path.rstrip(b"/"), iter(files.listing(path)))]
    while levels:
        above, items = levels[-1]
        if (item := next(items, None)) is None:
            levels.pop()
            continue
        child = above + b"/" + item.name
        yield child, item.attributes
        if stat.S_ISDIR(item.attributes.mode) and len(levels) != depth:
            levels.append((child, iter(files.listing(child))))


def _branches(files: Files, path: bytes, indent: str, depth: int) -> Iterator[str]:
    listed = files.listing(path)
    for item in listed:
        is_last = item is listed[-1]
        child = path + b"/" + item.name
        is_link = stat.S_ISLNK(item.attributes.mode)
        arrow = f" -> {_printable(files.target(child))}" if is_link else ""
        yield f"{indent}{'└── ' if is_last else '├── '}{_printable(item.name)}{arrow}"
        if stat.S_ISDIR(item.attributes.mode) and depth > 1:
            yield from _branches(files, child, indent + ("    " if is_last else "│   "), depth - 1)


def _row(files: Files, path: bytes, *, shown: bytes | None = None) -> dict[str, Any]:
    attributes = files.attributes(path, follow=False)
    is_link = stat.S_ISLNK(attributes.mode)
    target = _text(files.target(path)) if is_link else ""
    name = _text(path if shown is None else shown)
    return {
        "path": _text(path),
        "kind": _KIND_NAMES[stat.S_IFMT(attributes.mode)],
        "mode": stat.filemode(attributes.mode),
        "uid": attributes.uid,
        "gid": attributes.gid,
        "size": attributes.size_bytes,
        "mtime": _moment(attributes.mtime_ns // 10**9),
        "target": target,
        "shown": f"{name} -> {target}" if is_link else name,
    }


def _moment(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # beyond the calendar, each in its own way
        return str(seconds)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _printable(raw: bytes) -> str:
    return printable(_text(raw))
