"""How far a long step is: a bar on a terminal, now and then a line elsewhere; always on stderr."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cernvm.core.units import format_bytes
from cernvm.fs.publish.content import Progress

_LINE_EVERY_S = 5.0
_BAR_EVERY_S = 0.1
_COUNTED_AFTER_S = 0.5  # what is over by then is not worth a second walk


@contextmanager
def shown_progress(tree: Path | None = None, *, doing: str = "publishing") -> Iterator[Progress]:
    """A progress that is shown; of a tree, with how much of it is done and how long the rest takes."""
    with _counted(tree) as total:
        if not sys.stderr.isatty():
            yield Progress(on_change=_every(_LINE_EVERY_S, lambda one: _print(doing, one, total())))
            return
        with _bar(doing) as move:
            yield Progress(on_change=_every(_BAR_EVERY_S, lambda one: move(one, total())))


def _every(seconds: float, show: Callable[[Progress], None]) -> Callable[[Progress], None]:
    last = time.monotonic()

    def changed(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            show(progress)

    return changed


def _print(doing: str, progress: Progress, total: int | None) -> None:
    click.echo(f"cvm: {doing}: {_text(progress, total)}", err=True)


def _text(progress: Progress, total: int | None) -> str:
    of = "" if total is None else f" of {max(total, progress.files)}"
    packs = f", {progress.packs} packs" if progress.packs else ""
    read, stored = format_bytes(progress.read_bytes), format_bytes(progress.stored_bytes)
    return f"{progress.files}{of} files, {read} in, {stored} stored{packs}"


@contextmanager
def _bar(doing: str) -> Iterator[Callable[[Progress, int | None], None]]:
    from rich.console import Console  # noqa: PLC0415  # slow to import, and for terminals only
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar  # noqa: PLC0415

    columns = (
        SpinnerColumn(),
        BarColumn(24),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None)

        def move(progress: Progress, total: int | None) -> None:
            expected = None if total is None else max(total, progress.files)
            text = f"{doing}: {_text(progress, total)}"
            bar.update(task, completed=progress.files, total=expected, description=text)

        yield move


@contextmanager
def _counted(tree: Path | None) -> Iterator[Callable[[], int | None]]:
    """The number of files in a tree, once it is known: counting runs beside the work and ends with it."""
    if tree is None:
        yield lambda: None
        return
    counts: list[int] = []
    end = threading.Event()
    counting = threading.Thread(target=_count, args=(tree, counts, end), name="count", daemon=True)
    counting.start()
    try:
        yield lambda: counts[0] if counts else None
    finally:
        end.set()
        counting.join(5)


def _count(tree: Path, counts: list[int], end: threading.Event) -> None:
    number = 0
    waiting = [os.fsencode(tree)]
    end.wait(_COUNTED_AFTER_S)
    while waiting and not end.is_set():
        try:
            with os.scandir(waiting.pop()) as found:
                for one in found:
                    if one.is_dir(follow_symlinks=False):
                        waiting.append(one.path)
                    else:
                        number += one.is_file(follow_symlinks=False)
        except OSError:
            return  # publishing will say what is wrong
    counts.append(number)
