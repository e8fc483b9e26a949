"""Finding rotten content: all of it when asked, a little now and then in the background.

Source: docs/formats/cache.md, "Checksums".
"""

from __future__ import annotations

import logging
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cernvm.core.errors import HostError
from cernvm.core.home import ensure_folder
from cernvm.core.log import fields
from cernvm.fs.cache.checksum import checksum_of
from cernvm.fs.cache.folder import NO_DESCRIPTORS, Folder
from cernvm.fs.cache.index import Row
from cernvm.fs.cache.opening import OpenIndex

BACKGROUND_BYTES = (
    4_000_000  # of one round, which comes at most every few seconds, while the cache is in use
)
_ROWS = 500

log = logging.getLogger(__name__)


class Verdict(Enum):
    """What became of checking one file."""

    SOUND = "sound"
    DAMAGED = "damaged"
    GONE = "gone"  # evicted meanwhile
    UNRECORDED = "unrecorded"  # it had no checksum; it has one from now on


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of the whole cache found. Shape: `damaged` are names of content."""

    objects: int
    size_bytes: int
    damaged: tuple[str, ...]
    unrecorded: int


class Checker:
    """Compares files with their rows; `remove` is told which are damaged."""

    def __init__(self, folder: Folder, index: OpenIndex, remove: Callable[[str], None]) -> None:
        self._folder = folder
        self._index = index
        self._remove = remove
        # Names are digests, so a random place to begin makes a fair sample over many short lives.
        self._after = secrets.token_hex(1)

    def check_all(self, *, quarantine: Path | None, repair: bool) -> Checked:
        """Check everything.

        Errors: `sqlite3.Error`; `OSError` without a free descriptor, or for a quarantine that cannot be written.
        """
        objects = size_bytes = unrecorded = 0
        damaged: list[str] = []
        for name, row in self._all_rows():
            verdict = self._judge(name, row)
            if verdict is Verdict.GONE:
                continue
            objects += 1
            size_bytes += row.size_bytes
            unrecorded += verdict is Verdict.UNRECORDED
            if verdict is Verdict.DAMAGED:
                damaged.append(name)
                if quarantine is not None:
                    self._quarantine(name, quarantine)
                if repair:
                    self._remove(name)
        return Checked(objects, size_bytes, tuple(damaged), unrecorded)

    def check_some(self) -> None:
        """Check the next few files, and begin anew at the end."""
        left_bytes = BACKGROUND_BYTES
        try:
            rows = self._index.current.rows(self._after, 64)
            for name, row in rows:
                if left_bytes <= 0:
                    return
                self._after = name
                left_bytes -= row.size_bytes
                if self._judge(name, row) is Verdict.DAMAGED:
                    self._remove(name)
            if not rows:
                self._after = ""
        except (sqlite3.Error, OSError) as error:
            log.info("cache.check_skipped", extra=fields(error=str(error)))

    def _all_rows(self) -> Iterator[tuple[str, Row]]:
        after = ""
        while rows := self._index.current.rows(after, _ROWS):
            yield from rows
            after = rows[-1][0]

    def _judge(self, name: str, row: Row) -> Verdict:
        try:
            content = self._folder.open(name)
        except FileNotFoundError:
            return Verdict.GONE
        except OSError as error:  # a link, a device, anything but a file
            if error.errno in NO_DESCRIPTORS:
                raise
            return Verdict.DAMAGED
        try:
            if content.size_bytes == row.size_bytes:
                found = checksum_of(content)
                if row.checksum is None:
                    self._index.current.note_checksum(name, found)
                    return Verdict.UNRECORDED
                if found == row.checksum:
                    return Verdict.SOUND
        except HostError as error:  # the disk cannot read it
            log.warning("cache.unreadable", extra=fields(name=name, error=str(error)))
        return Verdict.DAMAGED

    def _quarantine(self, name: str, quarantine: Path) -> None:
        ensure_folder(quarantine, mode=0o700)
        with suppress(FileNotFoundError, shutil.SpecialFileError):
            source, target = self._folder.path / name, quarantine / name.replace("/", "")
            shutil.copyfile(source, target, follow_symlinks=False)
