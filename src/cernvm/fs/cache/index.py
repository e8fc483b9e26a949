"""What the cache knows of its files: sizes, the order of use, pins; one SQLite file shared by all processes.

The index is only ever a summary of the files: it may lag behind them and it can be rebuilt from them.
Source: docs/formats/cache.md, "Index".
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BUSY_S = 10.0

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)

# `turn` rises with each use; a larger one means used later. A pin belongs to an owner, whose death ends it.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (name TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, turn INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS objects_by_turn ON objects (turn, size_bytes);
CREATE TABLE IF NOT EXISTS pins (owner TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (owner, name)) WITHOUT ROWID;
"""
_USED = "SELECT COALESCE(SUM(size_bytes), 0) FROM objects"
_PINNED = f"{_USED} WHERE name IN (SELECT name FROM pins)"  # noqa: S608  # no value of a user in it
_OLDEST = (
    "SELECT name, size_bytes FROM objects WHERE name NOT IN (SELECT name FROM pins) ORDER BY turn"
)


@dataclass(frozen=True, slots=True)
class News:
    """What one process has to tell the index.

    Shape: `added` maps names to sizes; `used` is in the order of use and has what was added too; pins are `owner`'s.
    """

    owner: str
    added: Mapping[str, int]
    used: Sequence[str]
    pinned: Sequence[str] = ()
    unpinned: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """What an index says after news were written to it."""

    used_bytes: int
    pinned_bytes: int
    evicted: int


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is no good any more, rather than busy, full or out of reach just now."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_BUSY) & 0xFF
    return code in _DAMAGE


class Index:
    """One process's connection to the index.

    Errors: `sqlite3.DatabaseError` when the file is damaged, `sqlite3.OperationalError` when it cannot be written now.
    Concurrency: safe from any thread and process; a transaction waits for others at most `BUSY_S`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            known = self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            self.is_new = known is None
            self._connection.executescript(_SCHEMA)
            self._connection.execute(f"{_OLDEST} LIMIT 1").fetchall()
        except sqlite3.Error:
            self._connection.close()
            raise
        self._inode = path.stat().st_ino

    @property
    def is_replaced(self) -> bool:
        """Whether another process has rebuilt the index meanwhile."""
        try:
            return self._path.stat().st_ino != self._inode
        except OSError:
            return True

    def settle(
        self, news: News, *, quota_bytes: int, target_bytes: int, remove: Callable[[str], None]
    ) -> Settled:
        """Write down news; when over the quota, remove the least recently used down to the target.

        Files go before their rows: on a full disk that makes room for writing the rows.
        """
        with self._transaction() as connection:
            self._write_pins(connection, news)
            used_bytes = connection.execute(_USED).fetchone()[0] + sum(news.added.values())
            victims: set[str] = set()
            if used_bytes > quota_bytes:
                for name, size_bytes in self._oldest(connection, news):
                    if used_bytes <= target_bytes:
                        break
                    remove(name)
                    victims.add(name)
                    used_bytes -= size_bytes
            connection.executemany("DELETE FROM objects WHERE name = ?", [(n,) for n in victims])
            self._write_objects(connection, news, victims)
            used_bytes = connection.execute(_USED).fetchone()[0]
            return Settled(used_bytes, connection.execute(_PINNED).fetchone()[0], len(victims))

    def _write_pins(self, connection: sqlite3.Connection, news: News) -> None:
        unpinned = [(news.owner, name) for name in news.unpinned]
        connection.executemany("DELETE FROM pins WHERE owner = ? AND name = ?", unpinned)
        pinned = [(news.owner, name) for name in news.pinned]
        connection.executemany("INSERT OR IGNORE INTO pins VALUES (?, ?)", pinned)

    def _oldest(self, connection: sqlite3.Connection, news: News) -> Iterator[tuple[str, int]]:
        """Candidates for eviction, the least recently used first: by turn, then in the order of the news."""
        lately = dict.fromkeys(news.used)
        sizes = dict(news.added)
        for name, size_bytes in connection.execute(_OLDEST).fetchall():
            if name in lately:
                sizes[name] = size_bytes
            elif name not in news.added:
                yield name, size_bytes
        pinned = {row[0] for row in connection.execute("SELECT name FROM pins")}
        yield from ((n, sizes[n]) for n in lately if n in sizes and n not in pinned)

    def _write_objects(self, connection: sqlite3.Connection, news: News, gone: set[str]) -> None:
        first = connection.execute("SELECT COALESCE(MAX(turn), 0) FROM objects").fetchone()[0] + 1
        added = [(name, size) for name, size in news.added.items() if name not in gone]
        connection.executemany(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?)",
            [(name, size, turn) for turn, (name, size) in enumerate(added, first)],
        )
        connection.executemany(
            "UPDATE objects SET turn = ? WHERE name = ?",
            [(turn, name) for turn, name in enumerate(news.used, first + len(added))],
        )

    def forget(self, name: str) -> None:
        """Remove the row of a file that is gone."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM objects WHERE name = ?", (name,))

    def forget_owner(self, owner: str) -> None:
        """Undo all pins of a process that is gone."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM pins WHERE owner = ?", (owner,))

    def reconcile(self, files: Mapping[str, int], *, trust_unknown: bool) -> list[str]:
        """Make the rows say what the files are; returns the files that must be removed.

        Those are files of another size than recorded, and unknown ones unless they are trusted: after a loss of power
        a file without a row may have lost its bytes.
        """
        with self._transaction() as connection:
            rows = dict(connection.execute("SELECT name, size_bytes FROM objects").fetchall())
            doubtful = [
                name
                for name, size in files.items()
                if rows.get(name, size if trust_unknown else None) != size
            ]
            lost = [(name,) for name in rows if name not in files]
            connection.executemany("DELETE FROM objects WHERE name = ?", lost)
            connection.executemany("DELETE FROM objects WHERE name = ?", [(n,) for n in doubtful])
            unknown = files.keys() - rows.keys() - set(doubtful)
            connection.executemany(
                "INSERT OR IGNORE INTO objects VALUES (?, ?, 0)",
                [(name, files[name]) for name in unknown],
            )
            return doubtful

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
