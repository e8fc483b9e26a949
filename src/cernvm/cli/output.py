"""What commands print: rows as a table for people or as JSON for programs, always on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON on stdout instead of text."
)


def print_json(value: object) -> None:
    """One JSON document on stdout; dates and paths become text."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def print_rows(
    rows: Iterable[Mapping[str, object]],
    *,
    columns: Sequence[str],
    as_json: bool,
    headers: bool = True,
) -> None:
    """A listing: JSON (all fields of every row), or the chosen `columns`, aligned, with headings if `headers`.

    Shape: a column's heading is its field's name in upper case with `_` as space.
    """
    listed = [dict(row) for row in rows]
    if as_json:
        print_json(listed)
        return
    table = [[_cell(row.get(column)) for column in columns] for row in listed]
    if headers:
        table.insert(0, [column.upper().replace("_", " ") for column in columns])
    widths = [max((len(line[i]) for line in table), default=0) for i in range(len(columns))]
    for line in table:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(text.rstrip())


def printable(text: str) -> str:
    """Text that others chose, so that it cannot command a terminal or begin a line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _cell(value: object) -> str:
    return "" if value is None else printable(str(value))
