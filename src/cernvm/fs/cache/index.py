"""What the cache knows of its files: sizes, checksums, the order of use, pins; one SQLite file shared by all processes.

The index is only ever a summary of the files: it may lag behind them and it can be rebuilt from them.
Source: docs/formats/cache.md, "Index".
"""

from __future__ import annotations

import functools
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cernvm.fs.cache.port import Rank

OPENING_BUSY_S = 10.0
BUSY_MS = 2000  # of everything later: a reader may be waiting
MAX_VICTIMS = 2000  # of one transaction, so that nobody waits long for it

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)

# `turn` rises with each use; a larger one means used later. A pin belongs to an owner, whose death ends it; so do the
# bytes of files that lost their names while the owner reads them. Triggers keep the sum, which is asked for often.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (name TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    rank INTEGER NOT NULL CHECK (rank IN (0, 1, 2)), turn INTEGER NOT NULL, checksum BLOB) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS objects_by_turn ON objects (rank, turn, size_bytes);
CREATE TABLE IF NOT EXISTS pins (owner TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (owner, name))
    STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ghosts (owner TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (one INTEGER PRIMARY KEY CHECK (one = 1), used_bytes INTEGER NOT NULL,
    turn INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO totals VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS objects_added AFTER INSERT ON objects BEGIN
    UPDATE totals SET used_bytes = used_bytes + new.size_bytes; END;
CREATE TRIGGER IF NOT EXISTS objects_removed AFTER DELETE ON objects BEGIN
    UPDATE totals SET used_bytes = used_bytes - old.size_bytes; END;
CREATE TRIGGER IF NOT EXISTS objects_resized AFTER UPDATE OF size_bytes ON objects BEGIN
    UPDATE totals SET used_bytes = used_bytes - old.size_bytes + new.size_bytes; END;
"""
_ADD = """
INSERT INTO objects (name, size_bytes, rank, turn, checksum) VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE
SET size_bytes = excluded.size_bytes, rank = excluded.rank, turn = excluded.turn, checksum = excluded.checksum
"""
_USE = f"""
UPDATE objects SET turn = ?, rank = CASE rank WHEN {int(Rank.AHEAD)} THEN {int(Rank.REGULAR)} ELSE rank END
WHERE name = ?
"""  # noqa: S608  # no value of a user in it
_PINNED = "SELECT COALESCE(SUM(size_bytes), 0) FROM objects WHERE name IN (SELECT name FROM pins)"
_KEPT_BY = "kept:"  # no process is called so, and so it outlives them all
_KEPT = """
SELECT substr(owner, ?), COUNT(size_bytes), COALESCE(SUM(size_bytes), 0) FROM pins LEFT JOIN objects USING (name)
WHERE owner GLOB ? GROUP BY owner
"""
_OLDEST = """
SELECT name, size_bytes FROM objects WHERE rank = ? AND name NOT IN (SELECT name FROM pins) ORDER BY turn
"""


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one object; `checksum` is of its content, None when nobody has taken one."""

    size_bytes: int
    rank: Rank = Rank.REGULAR
    checksum: bytes | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """So many objects of so many bytes in all."""

    objects: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Summary:
    """How much there is of what; `kept` is by label, `pinned` has it too; ghosts are deleted and still being read."""

    all: Count
    by_rank: Mapping[Rank, Count]
    kept: Mapping[str, Count]
    pinned: Count
    ghost_bytes: int


@dataclass(frozen=True, slots=True)
class News:
    """What one process has to tell the index.

    Shape: `used` is in the order of use and has what was added too, unless it was fetched ahead; pins are `owner`'s.
    """

    owner: str
    added: Mapping[str, Row]
    used: Sequence[str]
    pinned: Sequence[str] = ()
    unpinned: Sequence[str] = ()
    ghost_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """What an index says after news were written to it. Units: bytes; those used include the ghosts'."""

    used_bytes: int
    pinned_bytes: int
    evicted: int


class _Unexpected(sqlite3.DatabaseError):
    """A database of another program, or of another version of this one."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is no good any more, rather than busy, full or out of reach just now."""
    if isinstance(error, _Unexpected):
        return True
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_BUSY) & 0xFF
    return code in _DAMAGE


class Index:
    """One process's connection to the index.

    Errors: `sqlite3.DatabaseError` when the file is damaged, `sqlite3.OperationalError` when it cannot be written now.
    Concurrency: safe from any thread and process; a transaction waits for others at most `BUSY_MS`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path, timeout=OPENING_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            known = self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            self.is_new = known is None
            self._connection.executescript(_SCHEMA)
            if _schema_of(self._connection) != _expected_schema():
                raise _Unexpected
            self._connection.execute(f"{_OLDEST} LIMIT 1", (0,)).fetchall()
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
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
        self,
        news: News,
        *,
        limit_bytes: int,
        target_bytes: int,
        remove: Callable[[str], bool],
    ) -> Settled:
        """Write down news; when over the limit, `remove` what is to go first, down to the target.

        At most `MAX_VICTIMS` go at a time. `remove` says False for what must stay, since it is being read. Files go
        before their rows: on a full disk that makes room for writing the rows.
        """
        with self._transaction() as connection:
            self._write_owned(connection, news)
            ghosts = connection.execute("SELECT COALESCE(SUM(size_bytes), 0) FROM ghosts")
            ghost_bytes = ghosts.fetchone()[0]
            used_bytes = ghost_bytes + self._used(connection, news)
            victims: set[str] = set()
            if used_bytes > limit_bytes:
                known = (self._row(connection, name) for name in news.added)
                used_bytes -= sum(row.size_bytes for row in known if row)
            if used_bytes > limit_bytes:
                for name, size_bytes in self._candidates(connection, news):
                    if used_bytes <= target_bytes or len(victims) >= MAX_VICTIMS:
                        break
                    if remove(name):
                        victims.add(name)
                        used_bytes -= size_bytes
            connection.executemany("DELETE FROM objects WHERE name = ?", [(n,) for n in victims])
            self._write_objects(connection, news, victims)
            used_bytes = ghost_bytes + self._used(connection)
            return Settled(used_bytes, connection.execute(_PINNED).fetchone()[0], len(victims))

    def _used(self, connection: sqlite3.Connection, news: News | None = None) -> int:
        used_bytes: int = connection.execute("SELECT used_bytes FROM totals").fetchone()[0]
        return used_bytes + (sum(row.size_bytes for row in news.added.values()) if news else 0)

    def _write_owned(self, connection: sqlite3.Connection, news: News) -> None:
        unpinned = [(news.owner, name) for name in news.unpinned]
        connection.executemany("DELETE FROM pins WHERE owner = ? AND name = ?", unpinned)
        pinned = [(news.owner, name) for name in news.pinned]
        connection.executemany("INSERT OR IGNORE INTO pins VALUES (?, ?)", pinned)
        ghosts = (news.owner, news.ghost_bytes)
        connection.execute("INSERT OR REPLACE INTO ghosts VALUES (?, ?)", ghosts)

    def _candidates(self, connection: sqlite3.Connection, news: News) -> Iterator[tuple[str, int]]:
        """What may be evicted: by rank, within it the least recently used first, those of the news last."""
        used = dict.fromkeys(news.used)
        lately = {name: row for name, row in news.added.items() if name not in used}
        for name in used:
            row = news.added.get(name) or self._row(connection, name)
            if row is not None:
                lately[name] = Row(row.size_bytes, row.rank.when_used)
        pinned = {row[0] for row in connection.execute("SELECT name FROM pins")}
        for rank in Rank:
            for name, size_bytes in connection.execute(_OLDEST, (int(rank),)):
                if name not in lately:
                    yield name, size_bytes
            for name, row in lately.items():
                if row.rank is rank and name not in pinned:
                    yield name, row.size_bytes

    def _row(self, connection: sqlite3.Connection, name: str) -> Row | None:
        found = connection.execute(
            "SELECT size_bytes, rank FROM objects WHERE name = ?", (name,)
        ).fetchone()
        return Row(found[0], Rank(found[1])) if found else None

    def _write_objects(self, connection: sqlite3.Connection, news: News, gone: set[str]) -> None:
        turn: int = connection.execute("SELECT turn FROM totals").fetchone()[0]
        read = set(news.used)
        unread = [name for name in news.added if name not in read]
        added: list[tuple[str, int, int, int, bytes | None]] = []
        used: list[tuple[int, str]] = []
        for name in (*unread, *news.used):
            turn += 1
            row = news.added.get(name)
            if row is None:
                used.append((turn, name))
            elif name not in gone:
                rank = row.rank.when_used if name in read else row.rank
                added.append((name, row.size_bytes, int(rank), turn, row.checksum))
        connection.executemany(_ADD, added)
        connection.executemany(_USE, used)
        connection.execute("UPDATE totals SET turn = ?", (turn,))

    def rows(self, after: str, limit: int) -> list[tuple[str, Row]]:
        """Up to `limit` objects whose names come after `after`, in the order of names."""
        with self._lock:
            found = self._connection.execute(
                "SELECT name, size_bytes, rank, checksum FROM objects WHERE name > ? ORDER BY name LIMIT ?",
                (after, limit),
            ).fetchall()
        return [(name, Row(size, Rank(rank), checksum)) for name, size, rank, checksum in found]

    def summary(self) -> Summary:
        """How much there is of what."""
        with self._lock:
            count = self._connection.execute
            ranks = count("SELECT rank, COUNT(*), SUM(size_bytes) FROM objects GROUP BY rank")
            kept = count(_KEPT, (len(_KEPT_BY) + 1, f"{_KEPT_BY}*"))
            pinned = count(
                "SELECT COUNT(*), COALESCE(SUM(size_bytes), 0) FROM objects WHERE name IN (SELECT name FROM pins)"
            )
            ghosts = count("SELECT COALESCE(SUM(size_bytes), 0) FROM ghosts")
            by_rank = {Rank(rank): Count(objects, size) for rank, objects, size in ranks.fetchall()}
            return Summary(
                Count(
                    sum(one.objects for one in by_rank.values()),
                    sum(one.size_bytes for one in by_rank.values()),
                ),
                by_rank,
                {label: Count(objects, size) for label, objects, size in kept.fetchall()},
                Count(*pinned.fetchone()),
                ghosts.fetchone()[0],
            )

    def keep(self, label: str, names: Sequence[str]) -> None:
        """Pin objects under a label until `release`, whichever processes come and go."""
        with self._transaction() as connection:
            rows = [(_KEPT_BY + label, name) for name in names]
            connection.executemany("INSERT OR IGNORE INTO pins VALUES (?, ?)", rows)

    def release(self, label: str) -> int:
        """Undo `keep`; returns of how many objects."""
        with self._transaction() as connection:
            gone = connection.execute("DELETE FROM pins WHERE owner = ?", (_KEPT_BY + label,))
            return gone.rowcount

    def rows_below(self, subfolder: str) -> dict[str, Row]:
        """All objects of one subfolder."""
        rows: dict[str, Row] = {}
        after = f"{subfolder}/"
        while found := [row for row in self.rows(after, 500) if row[0].startswith(subfolder)]:
            rows.update(found)
            after = found[-1][0]
        return rows

    def note_checksum(self, name: str, checksum: bytes) -> None:
        """Write down a checksum where there was none."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE objects SET checksum = ? WHERE name = ? AND checksum IS NULL",
                (checksum, name),
            )

    def forget(self, name: str) -> None:
        """Remove the row of a file that is gone."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM objects WHERE name = ?", (name,))

    def forget_owner(self, owner: str) -> None:
        """Undo all that belongs to a process that is gone."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM pins WHERE owner = ?", (owner,))
            connection.execute("DELETE FROM ghosts WHERE owner = ?", (owner,))

    def reconcile(
        self, subfolder: str, files: Mapping[str, int], *, trust_unknown: bool
    ) -> list[str]:
        """Make the rows of a subfolder say what its files are; returns the files that must be removed.

        Those are files of another size than recorded, and unknown ones unless they are trusted: after a loss of power
        a file without a row may have lost its bytes.
        """
        with self._transaction() as connection:
            below = (f"{subfolder}/", f"{subfolder}0")  # "0" follows "/" in the order of letters
            rows = dict(
                connection.execute(
                    "SELECT name, size_bytes FROM objects WHERE name > ? AND name < ?", below
                ).fetchall()
            )
            doubtful = [
                name
                for name, size in files.items()
                if rows.get(name, size if trust_unknown else None) != size
            ]
            lost = [(name,) for name in (*(rows.keys() - files.keys()), *doubtful)]
            connection.executemany("DELETE FROM objects WHERE name = ?", lost)
            unknown = files.keys() - rows.keys() - set(doubtful)
            rank = int(Rank.REGULAR)
            connection.executemany(
                "INSERT OR IGNORE INTO objects VALUES (?, ?, ?, 0, NULL)",
                [(name, files[name], rank) for name in unknown],
            )
            return doubtful

    def recount(self) -> None:
        """Sum up the sizes anew, in case that something other than this program has changed them."""
        with self._transaction() as connection:
            sizes = "SELECT COALESCE(SUM(size_bytes), 0) FROM objects"
            connection.execute(f"UPDATE totals SET used_bytes = ({sizes})")  # noqa: S608

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


def _schema_of(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    # the tables that ANALYZE makes are none of ours
    found = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_stat%' ORDER BY name"
    return connection.execute(found).fetchall()


@functools.cache
def _expected_schema() -> list[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return _schema_of(connection)
