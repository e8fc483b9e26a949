"""Where every thread of a mount's process is: asked over the control socket or, when that hangs, by a signal."""

from __future__ import annotations

import faulthandler
import sys
import threading
import traceback
from collections.abc import Iterator
from signal import SIGUSR2

DUMP_SIGNAL = SIGUSR2  # writes the stacks to the log, whatever the interpreter is at


def enable_dump() -> None:
    """Answer the signal, even while a thread keeps the interpreter's lock in the kernel."""
    faulthandler.register(DUMP_SIGNAL, file=2, all_threads=True)


def stacks() -> str:
    """The stack of every thread, as text."""
    return "\n".join(_stacks())


def _stacks() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  # the only way to others' stacks
        yield f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}"
