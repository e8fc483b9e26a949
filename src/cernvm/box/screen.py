"""What a person sees while the main job runs: each step with its command, live progress, its result and its time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cernvm.core.units import format_seconds

_REFRESH_PER_S = 8
_INDENT = 4
_LOG_WIDTH = 140
_STATE_STYLES = {
    "running": "blue",
    "leased": "blue",
    "done": "green",
    "pending": "yellow",
    "waiting": "dim",
    "failed": "red",
    "terminated": "dim",
}


class Screen:
    """The terminal (or a log, where stderr is none: then only beginnings and ends of steps are written)."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        if not self._console.is_terminal:
            self._console.width = _LOG_WIDTH
        self._live: Live | None = None
        self._note = ""
        self._table: Table | None = None
        self._began = 0.0

    def title(self, text: str) -> None:
        """A line above everything."""
        self._console.print(Text(text, style="bold"))

    @contextmanager
    def step(self, number: int, total: int, name: str, commands: Sequence[str]) -> Iterator[None]:
        """One step while it runs; its result is told by `finish`."""
        self._console.print()
        heading = Text.assemble((f"{number}/{total} ", "dim"), (name, "bold"))
        self._console.print(heading)
        for command in commands:
            # wrapped by the terminal, not by us, so that it can be copied
            line = Text(f"{' ' * _INDENT}$ {command}", style="cyan")
            self._console.print(line, soft_wrap=True)
        self._note, self._table, self._began = "", None, time.monotonic()
        if not self._console.is_terminal:
            yield
            return
        live = Live(
            console=self._console,
            refresh_per_second=_REFRESH_PER_S,
            transient=True,
            get_renderable=self._render,
        )
        with live:
            yield

    def note(self, text: str) -> None:
        """What is being done right now; replaces the last note."""
        self._note = text

    def rows(self, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
        """A table that stands under the note until the next one."""
        self._table = _table(columns, rows)

    def finish(self, result: str) -> None:
        """The step's result, with the table as it stands now."""
        if self._table is not None:
            self._console.print(Padding(self._table, (0, 0, 0, _INDENT)))
        took = format_seconds(time.monotonic() - self._began)
        line = Text.assemble(("  ✓ ", "green"), result, ("  " + took, "dim"))
        self._console.print(line)

    def fail(self) -> None:
        """Mark the step that failed; the error itself is told by whoever called."""
        took = format_seconds(time.monotonic() - self._began)
        self._console.print(Text.assemble(("  ✗ ", "red"), "failed", ("  after " + took, "dim")))

    def line(self, text: str) -> None:
        """A line of its own between steps."""
        self._console.print(Text(text))

    def _render(self) -> RenderableType:
        took = format_seconds(int(time.monotonic() - self._began))
        width = max(20, self._console.width - 20)
        note = Text.assemble(self._note[:width], ("  " + took, "dim"))
        spinner = Padding(Spinner("dots", note), (0, 0, 0, 2))
        if self._table is None:
            return spinner
        return Group(spinner, Padding(self._table, (0, 0, 0, _INDENT)))


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column.upper(), no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(str(row.get(column, ""))) for column in columns))
    return table


def _cell(text: str) -> Text:
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return Text(printable, style=_STATE_STYLES.get(text, ""))
