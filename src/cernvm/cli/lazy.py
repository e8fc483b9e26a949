"""Groups of words that import only the one that is used, so that `--help` stays instant."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click

# word: (module:attribute, what it does), by the title under which `--help` shows it
Words = Mapping[str, Mapping[str, tuple[str, str]]]


class LazyGroup(click.Group):
    """A group that knows its words, and their modules only by name."""

    def __init__(self, *args: Any, words: Words, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.words = words

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [word for group in self.words.values() for word in group]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        for group in self.words.values():
            if cmd_name in group:
                module, _, attribute = group[cmd_name][0].partition(":")
                command: click.Command = getattr(importlib.import_module(module), attribute)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The word's command; a word that is none is told with the nearest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0][:64], self.list_commands(ctx), 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"{error.message}{hint}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, group in self.words.items():
            with formatter.section(title):
                formatter.write_dl([(word, text) for word, (_, text) in group.items()])
