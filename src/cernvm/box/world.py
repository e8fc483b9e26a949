"""Where the demo runs: as root right here, as an ordinary user inside a namespace of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from cernvm.box.commands import cvm
from cernvm.box.namespace import check_namespaces, run_in_namespace
from cernvm.box.preflight import check_device, check_others, check_packages, only_one
from cernvm.box.sweep import check_clean, mark, remove_everything, stop_running, was_here, withdraw
from cernvm.core.home import Home


def in_own_world(
    home: Home, tell: Callable[[], None], *, again: Sequence[str], inside: bool
) -> int:
    """Run `tell` while holding the data folder; an ordinary user's `tell` is the `cvm` command `again`, started inside.

    Returns the exit code. A demo that could not begin leaves nothing behind.
    Errors: `ConflictError` for a second demo; `PrerequisiteError` of device and namespaces; those of `tell`.
    """
    if inside:
        tell()
        return 0
    _check_machine()
    mark(home)
    try:
        with only_one(home):
            check_others(home)
            if os.geteuid() == 0:
                tell()
                return 0
            return run_in_namespace([*cvm(), *again])
    finally:
        withdraw(home)


def clean(home: Home, *, again: Sequence[str], inside: bool, say: Callable[[str], None]) -> int:
    """End a running demo and remove every trace of all; an ordinary user's files are removed from inside.

    Errors: `ConflictError`, before anything is removed, while others use the folder.
    """
    if inside:
        say(remove_everything(home))
        return 0
    stop_running(home)
    if not was_here(home):
        say(f"no demo has left anything in {home.path}")
        return 0
    with only_one(home):
        check_clean(home)
        if os.geteuid() == 0:
            say(remove_everything(home))
            return 0
        return run_in_namespace([*cvm(), *again])


def _check_machine() -> None:
    check_packages()
    check_device()
    if os.geteuid() != 0:
        check_namespaces(os.getuid())
