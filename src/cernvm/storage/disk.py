"""Objects on a local disk: contents in files named by their checksum, names in an SQLite index.

Shape: `blobs/ab/SHA256`, `incoming/` for what is still arriving, `index.db`, `lock`. A name never becomes a file name,
so no name can lead anywhere else. A content is complete and synced before its name exists; what a crash leaves is
swept at the next start.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import (
    ConflictError,
    DigestMismatchError,
    ExistsError,
    NotFoundError,
    SpaceError,
    UnavailableError,
)
from cernvm.core.home import ensure_folder, sync_folder
from cernvm.core.lock import take_lock
from cernvm.storage.port import BLOCK_BYTES, Stat, check_object_path, check_sha256, checked

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    path TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,           -- names the file below blobs/; several paths may share it
    stored_at REAL NOT NULL         -- seconds since 1970
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS objects_by_content ON objects (sha256);
"""


class DiskStorage:
    """An `ObjectStorage` in one folder, which it owns alone while it is open.

    Errors: `ConflictError` when another process has the folder open.
    """

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        self._folder = ensure_folder(folder, mode=0o700)
        self._clock = clock or SystemClock()
        in_use = ConflictError(
            f"another storage service has {folder} open", advice="stop it, or choose another --data"
        )
        self._guard = take_lock(folder / "lock", in_use)
        ensure_folder(folder / "blobs")
        ensure_folder(folder / "incoming")
        self._index = sqlite3.connect(
            folder / "index.db", check_same_thread=False, isolation_level=None
        )
        self._index.execute("PRAGMA journal_mode=WAL")
        self._index.execute("PRAGMA synchronous=FULL")
        self._index.executescript(_SCHEMA)
        self._lock = threading.Lock()  # the index's connection, and blobs against their deletion
        self._sweep()

    def close(self) -> None:
        """Let another process have the folder."""
        self._index.close()
        os.close(self._guard)

    def put(self, path: str, blocks: Iterable[bytes], *, size_bytes: int, sha256: str) -> Stat:
        check_object_path(path)
        check_sha256(sha256)
        if (kept := self._row(path)) is not None and kept.sha256 != sha256:
            raise ExistsError("object", path)
        incoming = checked(blocks, path=path, size_bytes=size_bytes, sha256=sha256)
        with _disk_errors(path), self._received(incoming) as arrived, self._lock:
            stat = Stat(path, size_bytes, sha256, self._clock.now())
            if (kept := self._find_row(path)) is not None and kept.sha256 != sha256:
                raise ExistsError("object", path)
            blob = self._blob(sha256)
            if not blob.parent.is_dir():
                ensure_folder(blob.parent)
                sync_folder(blob.parent.parent)
            arrived.replace(blob)
            sync_folder(blob.parent)
            if kept is not None:
                return kept
            self._index.execute(
                "INSERT INTO objects VALUES (?, ?, ?, ?)",
                (path, size_bytes, sha256, stat.stored_at.timestamp()),
            )
            return stat

    def get(self, path: str) -> Iterator[bytes]:
        stat = self.stat(path)
        blob = self._blob(stat.sha256)
        if not blob.is_file():
            raise DigestMismatchError(expected=stat.sha256, got="gone", source=path)
        blocks = _read_blocks(blob)
        return checked(blocks, path=path, size_bytes=stat.size_bytes, sha256=stat.sha256)

    def stat(self, path: str, *, verify: bool = False) -> Stat:
        if (stat := self._row(check_object_path(path))) is None:
            raise NotFoundError("object", path, advice="see: cvm storage ls")
        if verify:
            for _ in self.get(path):
                pass
        return stat

    def list(self, prefix: str = "") -> list[Stat]:
        where, bounds = "", tuple[str, ...]()
        if prefix:
            # "0" is the letter after "/": everything below the folder, by index
            bounds = (f"{check_object_path(prefix)}/", f"{prefix}0")
            where = "WHERE path >= ? AND path < ?"
        with self._lock:
            rows = self._index.execute(
                f"SELECT path, size_bytes, sha256, stored_at FROM objects {where} ORDER BY path",  # noqa: S608
                bounds,
            ).fetchall()
        return [_to_stat(row) for row in rows]

    def delete(self, path: str) -> None:
        with self._lock:
            if (stat := self._find_row(check_object_path(path))) is None:
                raise NotFoundError("object", path, advice="see: cvm storage ls")
            self._index.execute("DELETE FROM objects WHERE path = ?", (path,))
            shared = self._index.execute(
                "SELECT 1 FROM objects WHERE sha256 = ?", (stat.sha256,)
            ).fetchone()
            if shared is None:
                self._blob(stat.sha256).unlink(missing_ok=True)

    @contextmanager
    def _received(self, blocks: Iterable[bytes]) -> Iterator[Path]:
        """A synced temporary file with all the blocks; removed unless it was moved away."""
        descriptor, name = tempfile.mkstemp(dir=self._folder / "incoming")
        try:
            with os.fdopen(descriptor, "wb") as file:
                for block in blocks:
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            yield Path(name)
        finally:
            with suppress(FileNotFoundError):
                Path(name).unlink()

    def _sweep(self) -> None:
        for left in (self._folder / "incoming").iterdir():
            left.unlink()
        known = {row[0] for row in self._index.execute("SELECT DISTINCT sha256 FROM objects")}
        for blob in (self._folder / "blobs").glob("*/*"):
            if blob.name not in known:
                blob.unlink()

    def _row(self, path: str) -> Stat | None:
        with self._lock:
            return self._find_row(path)

    def _find_row(self, path: str) -> Stat | None:
        row = self._index.execute(
            "SELECT path, size_bytes, sha256, stored_at FROM objects WHERE path = ?", (path,)
        ).fetchone()
        return None if row is None else _to_stat(row)

    def _blob(self, sha256: str) -> Path:
        return self._folder / "blobs" / sha256[:2] / sha256


def _to_stat(row: tuple[str, int, str, float]) -> Stat:
    return Stat(row[0], row[1], row[2], datetime.fromtimestamp(row[3], UTC))


def _read_blocks(blob: Path) -> Iterator[bytes]:
    with blob.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


@contextmanager
def _disk_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise SpaceError(
                f"no room for {path}: {error.strerror}", advice="free some space on the storage"
            ) from None
        raise UnavailableError(f"the storage's disk fails: {error.strerror}") from error
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise SpaceError(
                f"no room for {path}: the index cannot grow",
                advice="free some space on the storage",
            ) from None
        raise UnavailableError(f"the storage's index fails: {error}") from error
