"""Noting which files a program reads first, for a profile."""

from __future__ import annotations

import bisect
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from cernvm.core.errors import DeniedError
from cernvm.core.log import fields
from cernvm.fs.format.profile import MAX_ACCESSES
from cernvm.fs.format.reads import FirstRead, format_read
from cernvm.fs.reader import Piece

log = logging.getLogger(__name__)


class Recorder:
    """Appends the first reads to a file, whole lines at a time. Concurrency: safe from any thread.

    Errors: `DeniedError` where the file cannot be opened; one that cannot be written to any more is given up, as no
    reader shall fail by it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise DeniedError(f"{path} cannot be written: {error.strerror}") from error
        self._seen: set[FirstRead] = set()
        self._lock = threading.Lock()

    def add(self, path: bytes, pieces: Sequence[Piece], offset: int) -> None:
        """Note that a reader has to wait for this part of a file, which is made of these pieces."""
        place = bisect.bisect_right(pieces, offset, key=lambda piece: piece.offset) - 1
        read = FirstRead(path, pieces[place].offset if place >= 0 else 0)
        with self._lock:
            if read in self._seen or len(self._seen) >= MAX_ACCESSES:
                return
            self._seen.add(read)
            try:
                os.write(self._descriptor, format_read(read))
            except OSError as error:
                log.warning("read.not_recorded", extra=fields(error=str(error)))

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
