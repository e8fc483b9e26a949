"""Paths of commands that speak about mounts: named, and never touched, since a sick mount would hold the asker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class _Named(click.Path):
    """The original type asks the file system about each path, whether or not it must exist."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,  # noqa: ARG002
        ctx: click.Context | None,  # noqa: ARG002
    ) -> Any:
        return Path(value)


PATH = _Named(path_type=Path)
