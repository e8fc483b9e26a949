"""The lease book: who may change what until when; a small database that outlives the gateway.

One gateway writes it; `cvm repo gateway leases` and `cancel` look into it at the same time. A lease that has run out
counts as gone at once, wherever its holder went. What a token's commit came to is kept for a week, so that a publisher
who did not hear the answer may ask again.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import ConflictError, LeaseLostError
from cernvm.core.home import ensure_folder
from cernvm.fs.gateway.lease import Lease, LeasePath, PathBusyError

MAX_LEASES = 10_000
_KEEP_ANSWERS = timedelta(days=7)
_WAIT_S = 10.0
_CREATE = """
CREATE TABLE IF NOT EXISTS lease (
    token TEXT PRIMARY KEY, repository TEXT NOT NULL, path BLOB NOT NULL, key_id TEXT NOT NULL, hostname TEXT NOT NULL,
    ttl_s INTEGER NOT NULL, api_version INTEGER NOT NULL, opened_at REAL NOT NULL, expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS attempt (
    token TEXT PRIMARY KEY, base_revision INTEGER NOT NULL, begun_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS answer (
    token TEXT PRIMARY KEY, new_root TEXT NOT NULL, revision INTEGER NOT NULL, root TEXT NOT NULL,
    answered_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS closed (repository TEXT PRIMARY KEY);
"""
_COLUMNS = "token, repository, path, key_id, hostname, ttl_s, api_version, opened_at, expires_at"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a commit of `new_root` came to: the revision that has it, and that one's root."""

    new_root: str
    revision: int
    root: str


class LeaseBook:
    """The leases in the database at `path`, which is made where it is missing; safe from several threads."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        ensure_folder(path.parent, mode=0o700)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
        )
        path.chmod(0o600)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_CREATE)

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._database.close()

    def acquire(
        self, path: LeasePath, *, key_id: str, hostname: str, ttl_s: int, api_version: int
    ) -> Lease:
        """A new lease.

        Errors: `PathBusyError` while another one overlaps it, `ConflictError` while the repository takes none.
        """
        with self._transaction() as now:
            self._sweep(now)
            if self._is_closed(path.repository):
                raise ConflictError(f"{path.repository} takes no leases at present")
            for other in self._leases(path.repository, now):
                if other.path.overlaps(path):
                    raise PathBusyError(path, left_s=other.left_s(now))
            count = self._database.execute("SELECT count(*) FROM lease").fetchone()[0]
            if count >= MAX_LEASES:
                raise ConflictError(f"{MAX_LEASES} leases are open; no more are given")
            expires_at = now + timedelta(seconds=ttl_s)
            token = secrets.token_hex(32)
            lease = Lease(token, path, key_id, hostname, ttl_s, api_version, now, expires_at)
            row = (token, path.repository, path.path, key_id, hostname, ttl_s, api_version)
            self._database.execute(
                f"INSERT INTO lease ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (*row, now.timestamp(), expires_at.timestamp()),
            )
            return lease

    def find(self, token: str) -> Lease:
        """The open lease with this token; `LeaseLostError` where there is none (any more)."""
        with self._transaction(writes=False) as now:
            return self._find(token, now)

    def leases(self, repository: str | None = None) -> list[Lease]:
        """All open leases, by path."""
        with self._transaction(writes=False) as now:
            return sorted(self._leases(repository, now), key=lambda lease: lease.path)

    def refresh(self, token: str) -> Lease:
        """The lease, good once more for its whole time; `LeaseLostError` for one that has run out."""
        with self._transaction() as now:
            lease = self._find(token, now)
            self._extend(token, now + timedelta(seconds=lease.ttl_s))
            return self._find(token, now)

    def cancel(self, token: str) -> None:
        """Give a lease up; `LeaseLostError` where there is none."""
        with self._transaction() as now:
            self._find(token, now)
            self._remove(token)

    def cancel_below(self, path: LeasePath) -> list[Lease]:
        """Take away all leases at and below a path; returns them."""
        with self._transaction() as now:
            self._sweep(now)
            taken = [
                lease for lease in self._leases(path.repository, now) if path.covers(lease.path)
            ]
            for lease in taken:
                self._remove(lease.token)
            return taken

    def begin_commit(self, token: str, *, base_revision: int, at_least_s: int) -> tuple[Lease, int]:
        """The lease, good for the commit's time; and the revision that stood when its first attempt began."""
        with self._transaction() as now:
            lease = self._find(token, now)
            self._extend(token, max(lease.expires_at, now + timedelta(seconds=at_least_s)))
            self._database.execute(
                "INSERT INTO attempt VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (token, base_revision, now.timestamp()),
            )
            found = self._database.execute(
                "SELECT base_revision FROM attempt WHERE token = ?", (token,)
            ).fetchone()
            return lease, int(found[0])

    def finish_commit(self, token: str, answer: Answer) -> None:
        """The commit is served: the lease ends, its answer is kept."""
        with self._transaction() as now:
            self._remove(token)
            self._database.execute(
                "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?)",
                (token, answer.new_root, answer.revision, answer.root, now.timestamp()),
            )

    def answer(self, token: str) -> Answer | None:
        """What the commit under this token came to; None where none was made."""
        with self._transaction(writes=False):
            found = self._database.execute(
                "SELECT new_root, revision, root FROM answer WHERE token = ?", (token,)
            ).fetchone()
            return None if found is None else Answer(*found)

    def is_open(self, repository: str) -> bool:
        """Whether leases are given for a repository."""
        with self._transaction(writes=False):
            return not self._is_closed(repository)

    def set_open(self, repository: str, *, is_open: bool) -> None:
        """Give leases for a repository, or no more; those that are open stay."""
        with self._transaction():
            self._database.execute("DELETE FROM closed WHERE repository = ?", (repository,))
            if not is_open:
                self._database.execute("INSERT INTO closed VALUES (?)", (repository,))

    @contextmanager
    def _transaction(self, *, writes: bool = True) -> Iterator[datetime]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                yield self._clock.now()
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _sweep(self, now: datetime) -> None:
        self._database.execute("DELETE FROM lease WHERE expires_at <= ?", (now.timestamp(),))
        old = (now - _KEEP_ANSWERS).timestamp()
        self._database.execute("DELETE FROM answer WHERE answered_at < ?", (old,))
        self._database.execute("DELETE FROM attempt WHERE begun_at < ?", (old,))

    def _find(self, token: str, now: datetime) -> Lease:
        row = self._database.execute(
            f"SELECT {_COLUMNS} FROM lease WHERE token = ?",  # noqa: S608
            (token,),
        ).fetchone()
        if row is None or _lease(row).expires_at <= now:
            raise LeaseLostError(
                "there is no such lease (any more)", advice="publish again, under a new lease"
            )
        return _lease(row)

    def _leases(self, repository: str | None, now: datetime) -> list[Lease]:
        sql = f"SELECT {_COLUMNS} FROM lease WHERE expires_at > ?1 AND (?2 IS NULL OR repository = ?2)"  # noqa: S608
        rows = self._database.execute(sql, (now.timestamp(), repository))
        return [_lease(row) for row in rows]

    def _extend(self, token: str, until: datetime) -> None:
        self._database.execute(
            "UPDATE lease SET expires_at = ? WHERE token = ?", (until.timestamp(), token)
        )

    def _remove(self, token: str) -> None:
        self._database.execute("DELETE FROM lease WHERE token = ?", (token,))
        self._database.execute("DELETE FROM attempt WHERE token = ?", (token,))

    def _is_closed(self, repository: str) -> bool:
        found = self._database.execute("SELECT 1 FROM closed WHERE repository = ?", (repository,))
        return found.fetchone() is not None


def _lease(row: tuple[str, str, bytes, str, str, int, int, float, float]) -> Lease:
    token, repository, path, key_id, hostname, ttl_s, api_version, opened_at, expires_at = row
    return Lease(
        token,
        LeasePath(repository, path),
        key_id,
        hostname,
        ttl_s,
        api_version,
        datetime.fromtimestamp(opened_at, UTC),
        datetime.fromtimestamp(expires_at, UTC),
    )
