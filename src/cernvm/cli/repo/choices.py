"""The options that several commands of `cvm repo` take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

C = TypeVar("C", bound=Callable[..., Any])

_WEEK_S = 604_800

tag_option = click.option(
    "--tag", default="", metavar="TAG", help="Name the revision; the time, if not given."
)
message_option = click.option("--message", default="", metavar="TEXT", help="Describe the tag.")
owner_option = click.option(
    "--owner", default="", metavar="root|UID:GID", help="Owner of every path, not as it is there."
)
settings_option = click.option(
    "--set",
    "chosen",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting for this time, see `cvm repo settings`; may be repeated.",
)
second_keys_option = click.option(
    "--second-key",
    "second_keys",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Also ask for a second signature, by this key.",
)
address_option = click.option(
    "--address", default="127.0.0.1", show_default=True, help="Address to listen on."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Only tell what would change.")


def wait_option(default_s: float = 0.0) -> Callable[[C], C]:
    """How long to wait for another publisher; the command gets it as `wait_s`."""
    return click.option(
        "--wait",
        "wait_s",
        type=click.FloatRange(0, _WEEK_S),
        default=default_s,
        show_default=True,
        metavar="SECONDS",
        help="How long another publisher may still be at work.",
    )


def keys_option(text: str, *, is_required: bool = False) -> Callable[[C], C]:
    """The public keys of a repository, as files; the command gets them as `keys`."""
    return click.option(
        "--key",
        "keys",
        multiple=True,
        required=is_required,
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help=text,
    )


def port_option(default: int) -> Callable[[C], C]:
    """The port that a server listens on."""
    return click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=default,
        show_default=True,
        help="0: free.",
    )
