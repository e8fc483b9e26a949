"""Progress on stderr, where somebody looks at it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cernvm.core.units import format_bytes


@contextmanager
def counting(verb: str) -> Iterator[Callable[[int, int], None]]:
    """A line that counts names and bytes; silent unless stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _names, _size_bytes: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=None)
        yield lambda names, size_bytes: progress.update(
            task, description=f"{verb} {names} names, {format_bytes(size_bytes)}"
        )
