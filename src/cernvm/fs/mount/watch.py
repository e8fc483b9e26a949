"""The last resort against a hang: a loop that is stuck with one request is ended, so that somebody else can serve.

What may wait has threads and deadlines of its own; this is for defects, deadlocks and disks that do not answer.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

from cernvm.core.log import fields

LOOK_S = 1.0

log = logging.getLogger(__name__)


class LoopWatch:
    """Looks once a second at the number of the request that a loop has in hand (0: none); ends the process at last.

    Units: stuck means that it was the same at every look for `limit_s`. Looks are counted, not seconds: a machine that
    slept, or a process that was stopped, is not stuck.
    """

    def __init__(
        self,
        in_hand: Callable[[], int],
        *,
        limit_s: float,
        look_s: float = LOOK_S,
        end: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL),
    ) -> None:
        self._in_hand = in_hand
        self._limit = limit_s / look_s
        self._look_s = look_s
        self._end = end
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        loop = threading.get_ident()
        threading.Thread(target=self._watch, args=(loop,), name="mount-watch", daemon=True).start()

    def stop(self) -> None:
        """End before the next look."""
        self._stopped.set()

    def _watch(self, loop: int) -> None:
        number, looks = 0, 0
        while not self._stopped.wait(self._look_s):
            now = self._in_hand()
            looks = looks + 1 if now and now == number else 0
            number = now
            if looks >= self._limit:
                frame = sys._current_frames().get(loop)  # noqa: SLF001  # the only way to its stack
                stack = "".join(traceback.format_stack(frame)) if frame else ""
                log.error("loop.stuck", extra=fields(number=number, stack=stack))
                self._end()
                return
