"""The command of the processes that serve mounts."""

from __future__ import annotations

import sys

from cernvm.cli.main import Edge

_RUN_CVM = "from cernvm.cli.main import main; main()"


def serving_command(edge: Edge, *words: str) -> list[str]:
    """The command of a process that serves a mount."""
    level = "--debug" if edge.debug else "-v"
    return [sys.executable, "-P", "-c", _RUN_CVM, level, "mount", *words]
