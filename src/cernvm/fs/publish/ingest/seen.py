"""The paths that an archive has placed, kept on disk: there may be millions."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Self


class Seen:
    """A set of paths, that knows which of them the last layer placed; a context manager.

    Concurrency: one thread.
    """

    def __init__(self) -> None:
        self._layer = 0
        self._database = sqlite3.connect("", isolation_level=None)  # a nameless file of its own
        self._database.execute("CREATE TABLE seen (path BLOB PRIMARY KEY, layer) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    def next_layer(self) -> None:
        """What is added from here on belongs to another layer."""
        self._layer += 1

    def add(self, path: bytes) -> None:
        """Note a path of this layer."""
        self._database.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", (path, self._layer))

    def __contains__(self, path: bytes) -> bool:
        return self._has("path = ?", path)

    def is_in_layer(self, path: bytes) -> bool:
        """Whether this layer placed the path, or one below it."""
        below = "layer = ? AND (path = ? OR path > ? AND path < ?)"
        return self._has(below, self._layer, path, path + b"/", path + b"0")

    def has_below(self, path: bytes) -> bool:
        """Whether there is a path below this one."""
        return self._has("path > ? AND path < ?", path + b"/", path + b"0")

    def _has(self, condition: str, *values: object) -> bool:
        query = f"SELECT 1 FROM seen WHERE {condition} LIMIT 1"  # noqa: S608  # the two above
        return self._database.execute(query, values).fetchone() is not None
