"""How `cvm mount`, `cvm exec` and `cvm fs` are told where a repository comes from, and how to read it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cernvm.cli.paths import PATH
from cernvm.core.errors import InvalidInputError, NotFoundError
from cernvm.fs.api import Pin, Wanted
from cernvm.fs.vfs import OwnerSettings, parse_id_map

FOLDER = PATH
_MAX_MAP_BYTES = 1 << 20


def _on_off(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(name, type=click.Choice(["on", "off"]), help=text)


_OPTIONS = (
    click.option("--url", default="", metavar="'URL;URL'", help="Its servers, in order."),
    click.option(
        "--public-key",
        "public_keys",
        multiple=True,
        type=FOLDER,
        metavar="FILE",
        help="A master key that may vouch for it; may be repeated.",
    ),
    click.option(
        "--second-key",
        "second_keys",
        multiple=True,
        type=FOLDER,
        metavar="FILE",
        help="A key that must have made the second signature; may be repeated.",
    ),
    click.option(
        "--proxy",
        default="",
        metavar="CHAIN",
        help="Proxies, as in 'http://p1:3128|http://p2:3128;DIRECT'.  [default: DIRECT]",
    ),
    click.option(
        "--external-url",
        default="",
        metavar="'URL;URL'",
        help="Servers of files that the repository only describes.",
    ),
    click.option("--tag", default="", metavar="NAME", help="Hold the revision of that tag."),
    click.option("--revision", type=click.IntRange(min=1), help="Hold that revision."),
    click.option(
        "--at", default="", metavar="DATE", help="Hold what was published by then, as 2026-03-01."
    ),
    click.option(
        "--root-hash", default="", metavar="DIGEST", help="Hold exactly that root catalog."
    ),
    click.option(
        "--variable",
        "variables",
        multiple=True,
        metavar="NAME=VALUE",
        help="Fills in variant symlinks; may be repeated.",
    ),
    click.option("--cache", type=FOLDER, metavar="DIR", help="[default: $CVM_HOME/cache]"),
    click.option(
        "--cache-kind",
        type=click.Choice(["disk", "memory", "none"]),
        help="Where content is kept; none needs an alien cache.  [default: disk]",
    ),
    click.option(
        "--quota-mb",
        type=click.IntRange(min=1),
        help="The most that the cache may hold.  [default: 4000]",
    ),
    click.option(
        "--alien-cache", type=FOLDER, metavar="DIR", help="Another cache to look into first."
    ),
    click.option("--alien-writes", is_flag=True, help="Also add to the alien cache."),
    click.option("--cache-readable", is_flag=True, help="Let all users read the cache folder."),
    _on_off("--read-ahead", "Fetch what is likely next.  [default: on]"),
    _on_off("--packs", "Fetch many small files in one request.  [default: on]"),
    _on_off("--profiles", "Fetch what a known program will read.  [default: on]"),
)
_OWNER_OPTIONS = (
    click.option("--uid-map", type=FOLDER, metavar="FILE", help="Lines 'FROM TO' for owners."),
    click.option("--gid-map", type=FOLDER, metavar="FILE", help="Lines 'FROM TO' for groups."),
    click.option("--claim-ownership", is_flag=True, help="Show all files as yours."),
)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; it is called with `wanted` in their place."""
    return _collected(command, _OPTIONS)


def mounting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """As `reading_options`, with those for whom files are shown to belong to."""
    return _collected(command, (*_OPTIONS, *_OWNER_OPTIONS))


def pair(text: str) -> tuple[str, str]:
    """The two sides of `NAME=VALUE`. Errors: `InvalidInputError`."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InvalidInputError(f"{text!r} is no variable", advice="write NAME=VALUE")
    return name, value


def _collected(command: Callable[..., Any], options: tuple[Any, ...]) -> Callable[..., Any]:
    @functools.wraps(command)
    def called(
        *arguments: Any,
        url: str,
        public_keys: tuple[Path, ...],
        second_keys: tuple[Path, ...],
        proxy: str,
        external_url: str,
        tag: str,
        revision: int | None,
        at: str,
        root_hash: str,
        variables: tuple[str, ...],
        cache: Path | None,
        cache_kind: str | None,
        quota_mb: int | None,
        alien_cache: Path | None,
        alien_writes: bool,
        cache_readable: bool,
        read_ahead: str | None,
        packs: str | None,
        profiles: str | None,
        uid_map: Path | None = None,
        gid_map: Path | None = None,
        claim_ownership: bool = False,
        **others: Any,
    ) -> Any:
        wanted = Wanted(
            url=url,
            public_keys=public_keys,
            second_keys=second_keys,
            proxy=proxy,
            external_url=external_url,
            cache=cache,
            cache_kind=cache_kind or "",
            quota_bytes=quota_mb and quota_mb * 1_000_000,
            alien_cache=alien_cache,
            alien_writes=alien_writes or None,
            is_cache_readable_by_all=cache_readable or None,
            variables=dict(map(pair, variables)),
            pin=Pin(root_hash, tag, revision or 0, at),
            owners=_owners(uid_map, gid_map, is_claimed=claim_ownership),
            read_ahead=_is_on(read_ahead),
            packs=_is_on(packs),
            profiles=_is_on(profiles),
        )
        return command(*arguments, wanted=wanted, **others)

    for option in reversed(options):
        called = option(called)
    return called


def _is_on(word: str | None) -> bool | None:
    return None if word is None else word == "on"


def _owners(uid_map: Path | None, gid_map: Path | None, *, is_claimed: bool) -> OwnerSettings:
    return OwnerSettings(
        _id_map(uid_map),
        _id_map(gid_map),
        claim_uid=os.geteuid() if is_claimed else None,
        claim_gid=os.getegid() if is_claimed else None,
    )


def _id_map(path: Path | None) -> dict[str, int]:
    if path is None:
        return {}
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return parse_id_map(file.read(_MAX_MAP_BYTES), where=str(path))
    except FileNotFoundError:
        raise NotFoundError("map of owners", str(path)) from None
