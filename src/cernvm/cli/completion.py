"""What the shell offers after TAB: repositories that are known here, and paths from catalogs that are at hand."""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem

from cernvm.core.errors import CvmError
from cernvm.core.home import Home
from cernvm.fs.api.known import known_names, names_below

_MAX_OFFERED = 500


def complete_name(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """The names of repositories."""
    return [CompletionItem(name) for name in _names(begun)]


def complete_target(
    _ctx: click.Context, _param: click.Parameter, begun: str
) -> list[CompletionItem]:
    """`NAME:/PATH`; never asks a server."""
    name, colon, path = begun.partition(":")
    before = f"{name}:"
    words = os.environ.get("COMP_WORDS", "").split()
    if begun.startswith("/") and words[-2:] == [":", begun]:
        # bash ends a word at the colon, and replaces only what is behind it
        name, colon, path, before = words[-3], ":", begun, ""
    if colon:
        return [CompletionItem(before + found) for found in _paths(name, path)]
    names = _names(begun)
    if len(names) == 1:
        return [CompletionItem(f"{names[0]}:{path}") for path in _paths(names[0], "/") or ["/"]]
    return [CompletionItem(name) for name in names]


def _names(begun: str) -> list[str]:
    try:
        names = known_names(Home.from_environment(os.environ), environment=os.environ)
    except (CvmError, OSError):
        return []
    return [name for name in names if name.startswith(begun)]


def _paths(name: str, path: str) -> list[str]:
    """What a begun path may become; a single directory is opened at once, since a shell would end the word there."""
    above, _, last = path.rpartition("/")
    try:
        below = names_below(Home.from_environment(os.environ), name, above or "/")
    except (CvmError, OSError):
        return []
    found = [f"{above}/{child}" for child in below if child.startswith(last)][:_MAX_OFFERED]
    if len(found) == 1 and found[0].endswith("/"):
        return _paths(name, found[0]) or found
    return found
