"""The options that several commands of `cvm repo` take."""

from __future__ import annotations

from collections.abc import Callable
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
