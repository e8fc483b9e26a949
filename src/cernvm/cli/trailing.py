"""Commands that run another command: everything behind `--` is that one's, options and all."""

from __future__ import annotations

import click


class TrailingCommand(click.Command):
    """A command of `cvm` that takes another one behind `--`; `trailing` tells which."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = args[args.index("--") + 1 :] if "--" in args else []
        return super().parse_args(ctx, args[: args.index("--")] if "--" in args else args)


def trailing(ctx: click.Context) -> list[str]:
    """The command behind `--`, empty where there is none."""
    found: list[str] = ctx.meta[__name__]
    return found
