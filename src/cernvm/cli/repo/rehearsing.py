"""What a dry run prints: the changes that it would publish, as `cvm repo diff` shows them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import click

from cernvm.cli.repo.diffing import change_row, shown_line, shown_totals, totals_row
from cernvm.core.units import format_bytes
from cernvm.fs.publish.publishing import Published
from cernvm.fs.survey.difference import Change, Totals


@dataclass(slots=True)
class ShownRehearsal:
    """Prints changes as they are told, and in the end what would be stored."""

    as_json: bool
    totals: Totals = field(default_factory=Totals)

    def tell(self, change: Change) -> None:
        """One change."""
        self.totals.add(change)
        if self.as_json:
            click.echo(json.dumps(change_row(change), ensure_ascii=False))
        else:
            click.echo(shown_line(change))

    def finish(self, rehearsed: Published) -> None:
        """All of them, and that nothing was done."""
        stored = (rehearsed.stored_objects, rehearsed.stored_bytes)
        if self.as_json:
            row = {"stored_objects": stored[0], "stored_bytes": stored[1]}
            click.echo(json.dumps({"totals": totals_row(self.totals), **row}))
            return
        click.echo(shown_totals(self.totals))
        click.echo(f"would store {stored[0]} objects, {format_bytes(stored[1])}; nothing was done")
