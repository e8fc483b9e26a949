"""`cvm repo pass-through`: repositories that are fetched on demand, not copied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from cernvm.cli.lazy import LazyGroup, Words
from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_rows
from cernvm.cli.repo.choices import keys_option, second_keys_option
from cernvm.cli.repo.shown import print_fields
from cernvm.core.errors import InvalidInputError
from cernvm.core.home import check_repository_name
from cernvm.core.units import format_bytes, parse_size
from cernvm.fs.format.objects import MANIFEST_PATH
from cernvm.fs.replicate.through.record import (
    DEFAULT_STALE_S,
    PassThrough,
    forget_pass_through,
    known_pass_throughs,
    read_pass_through,
    write_pass_through,
)
from cernvm.fs.replicate.through.store import open_through

_HERE = "cernvm.cli.repo.passing"
WORDS: Words = {
    "Words": {
        "add": (f"{_HERE}:add", "Pass a repository through."),
        "ls": (f"{_HERE}:list_", "List them, and what is kept of them."),
        "remove": (f"{_HERE}:remove", "Pass one through no more."),
    },
}


@click.group(
    "pass-through",
    cls=LazyGroup,
    words=WORDS,
    epilog="Example: cvm repo pass-through add http://far.example/cvmfs/sft.cernvm.test --key sft.pub",
)
def pass_through() -> None:
    """Serve repositories that are kept elsewhere: fetched on demand, verified, and kept while there is room.

    `cvm repo serve` exports them like repositories of its own.
    """


@click.command(
    epilog="Example: cvm repo pass-through add http://far.example/cvmfs/sft.cernvm.test --key sft.pub"
)
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.option("--name", default="", help="Which repository; the URL's last part, if not given.")
@keys_option("The repository's public key; any of several may vouch for it.", is_required=True)
@second_keys_option
@click.option("--storage", type=click.Path(path_type=Path), help="Folder for what is kept.")
@click.option(
    "--limit",
    default="20 GiB",
    show_default=True,
    metavar="SIZE",
    help="Keep at most so much; what was not asked for in the longest time goes.",
)
@click.option(
    "--stale-days",
    type=click.FloatRange(0),
    default=DEFAULT_STALE_S / 86400,
    show_default=True,
    metavar="DAYS",
    help="How long to serve the last revision while no URL answers.",
)
@click.option(
    "--proxy", default="DIRECT", metavar="CHAIN", help="As in http://p1:3128|http://p2:3128;DIRECT"
)
@json_option
@click.pass_obj
def add(
    edge: Edge,
    *,
    urls: Sequence[str],
    name: str,
    keys: Sequence[Path],
    second_keys: Sequence[Path],
    storage: Path | None,
    limit: str,
    stale_days: float,
    proxy: str,
    as_json: bool,
) -> None:
    """Pass a repository through that is at URL, and at further URLs when that fails."""
    chosen = check_repository_name(name or urls[0].rstrip("/").rpartition("/")[2])
    one = PassThrough(
        name=chosen,
        storage=(storage or edge.home.storage / chosen).absolute(),
        urls=tuple(url.rstrip("/") for url in urls),
        public_keys=tuple(keys),
        limit_bytes=parse_size(limit),
        proxies=proxy,
        stale_s=round(stale_days * 86400),
        second_keys=tuple(second_keys),
    )
    if one.storage.exists() and any(one.storage.iterdir()):
        raise InvalidInputError(f"{one.storage} is not empty", advice="choose another --storage")
    open_through(one).get(MANIFEST_PATH)  # a wrong URL or key is found here, not by a client
    write_pass_through(edge.home, one)
    print_fields(_row(one), as_json=as_json)


@click.command("ls", epilog="Example: cvm repo pass-through ls --json")
@json_option
@click.pass_obj
def list_(edge: Edge, *, as_json: bool) -> None:
    """List what is passed through, from where, and how much of it is kept."""
    rows = [_row(one) for one in known_pass_throughs(edge.home)]
    print_rows(rows, columns=("name", "urls", "limit", "storage"), as_json=as_json)


@click.command(epilog="Example: cvm repo pass-through remove sft.cernvm.test")
@click.argument("name")
@click.pass_obj
def remove(edge: Edge, *, name: str) -> None:
    """Pass repository NAME through no more; what was kept of it stays in its folder."""
    one = read_pass_through(edge.home, name)
    forget_pass_through(edge.home, name)
    click.echo(f"removed {name}; what was kept is in {one.storage}")


def _row(one: PassThrough) -> dict[str, object]:
    return {
        "name": one.name,
        "urls": " ".join(one.urls),
        "limit": format_bytes(one.limit_bytes),
        "limit_bytes": one.limit_bytes,
        "stale_s": one.stale_s,
        "storage": str(one.storage),
    }
