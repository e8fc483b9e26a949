"""The publisher's memory: which files it has stored as what, so that an unchanged one is not read again.

A file counts as unchanged while device, inode, size, mtime *and ctime* are the same: nobody can set a ctime back, and
what changes extended attributes changes it. A file that changed in the last seconds before the memory was opened, or
since, is not remembered, as a change after it was read could carry the same time. The memory is a plain speed-up: it
may be deleted at any time.
What was not met for months is forgotten, so that it grows with the trees that are published, not with their history.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cernvm.core.digest import Algorithm, Digest, parse_digest
from cernvm.core.errors import FormatError, InvalidInputError
from cernvm.core.home import ensure_folder
from cernvm.core.log import fields
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import NO_XATTRS, Chunk
from cernvm.fs.format.pack import Pack
from cernvm.fs.format.xattrs import format_xattrs, parse_xattrs
from cernvm.fs.publish.content import Content

log = logging.getLogger(__name__)

_SETTLED_NS = 2 * 10**9  # the coarsest clock of a file system
_VERSION = 4
_DAY_S = 86_400
_MET_AGAIN_DAYS = 30  # how old the note of when a file was met last may become
_FORGOTTEN_DAYS = 120
_MOST_PACKS = 50_000
_BATCH = 1_000
_COMPRESSIONS = {int(one): one for one in Compression}
_CREATE = """\
CREATE TABLE files (device INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, met_day INTEGER,
    algorithm INTEGER, digest BLOB, chunks TEXT, xattrs BLOB, compression INTEGER,
    PRIMARY KEY (device, inode)) WITHOUT ROWID;
CREATE TABLE packs (fingerprint BLOB PRIMARY KEY, digest TEXT, size INTEGER, objects INTEGER);
CREATE TABLE recipe (text TEXT);
"""
_SELECT = (
    "SELECT size, mtime_ns, ctime_ns, met_day, algorithm, digest, chunks, xattrs, compression FROM files"
    " WHERE device = ? AND inode = ?"
)


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What a file was stored as, how, and its extended attributes."""

    content: Content
    compression: Compression
    xattrs: Mapping[bytes, bytes] = field(default_factory=lambda: NO_XATTRS)


class Index:
    """The memory of one repository's publisher; what is remembered is kept by `save` only."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._today = int(time.time()) // _DAY_S
        self._settled_ns = time.time_ns() - _SETTLED_NS
        self._files: list[tuple[object, ...]] = []
        self._met: list[tuple[int, int, int]] = []
        self._packs: dict[bytes, Pack] = {}
        self._has_files = self._row("SELECT 1 FROM files LIMIT 1", ()) is not None

    def file(self, status: os.stat_result) -> KnownFile | None:
        """What was stored for the file with these attributes; None for a new or changed one."""
        if not self._has_files:
            return None
        key = (_signed(status.st_dev), _signed(status.st_ino))
        row = self._row(_SELECT, key)
        if row is None or row[:3] != (status.st_size, status.st_mtime_ns, status.st_ctime_ns):
            return None
        try:
            digest = None if row[5] is None else Digest(Algorithm.from_flag(row[4]), row[5])
            chunks = _chunks(row[6]) if row[6] else ()
            xattrs = NO_XATTRS if row[7] is None else parse_xattrs(row[7])
            compression = _COMPRESSIONS[row[8]]
        except (FormatError, InvalidInputError, KeyError, ValueError, TypeError):
            return None
        if row[3] < self._today - _MET_AGAIN_DAYS:
            self._met.append((self._today, *key))
        return KnownFile(Content(status.st_size, digest, chunks), compression, xattrs)

    def remember_file(self, status: os.stat_result, known: KnownFile) -> None:
        """Note what a file was stored as, unless it changed too recently to be sure."""
        if max(status.st_ctime_ns, status.st_mtime_ns) > self._settled_ns:
            return
        content, digest = known.content, known.content.digest
        chunks = [(chunk.offset, chunk.size, str(chunk.digest)) for chunk in content.chunks]
        self._files.append(
            (
                _signed(status.st_dev),
                _signed(status.st_ino),
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
                self._today,
                0 if digest is None else digest.algorithm.flag,
                None if digest is None else digest.raw,
                json.dumps(chunks) if chunks else None,
                format_xattrs(known.xattrs) if known.xattrs else None,
                int(known.compression),
            )
        )
        if len(self._files) >= _BATCH:
            self._write()

    def pack(self, fingerprint: bytes) -> Pack | None:
        """The pack that was made of a list of objects."""
        if (made := self._packs.get(fingerprint)) is not None:
            return made
        row = self._row(
            "SELECT digest, size, objects FROM packs WHERE fingerprint = ?", (fingerprint,)
        )
        try:
            return None if row is None else Pack(parse_digest(row[0]), row[1], row[2])
        except (FormatError, ValueError, TypeError, AttributeError):
            return None

    def remember_pack(self, fingerprint: bytes, pack: Pack) -> None:
        """Note what a list of objects was packed as."""
        self._packs[fingerprint] = pack
        if len(self._packs) >= _BATCH:
            self._write()

    def save(self) -> None:
        """Keep what was remembered; call it once the revision is durable."""
        self._write()
        if not self._database.in_transaction:
            return
        try:
            self._database.execute(
                "DELETE FROM files WHERE met_day < ?", (self._today - _FORGOTTEN_DAYS,)
            )
            self._database.execute(
                "DELETE FROM packs WHERE rowid <= (SELECT max(rowid) FROM packs) - ?",
                (_MOST_PACKS,),
            )
            self._database.commit()
        except sqlite3.Error as exc:
            # the revision stands; the next publication reads more files than it would have to
            log.warning("index.not_saved", extra=fields(error=str(exc)))

    def _write(self) -> None:
        """Move what was remembered into the open transaction, so that memory stays flat."""
        packs = [
            (fingerprint, str(pack.digest), pack.size_bytes, pack.object_count)
            for fingerprint, pack in self._packs.items()
        ]
        try:
            for statement, rows in (
                (
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    self._files,
                ),
                ("UPDATE files SET met_day = ? WHERE device = ? AND inode = ?", self._met),
                ("INSERT OR REPLACE INTO packs VALUES (?, ?, ?, ?)", packs),
            ):
                if rows:
                    self._database.executemany(statement, rows)
        except sqlite3.Error as exc:
            log.warning("index.not_written", extra=fields(error=str(exc)))
        self._has_files = self._has_files or bool(self._files)
        self._files.clear()
        self._met.clear()
        self._packs.clear()

    def _row(self, query: str, key: tuple[object, ...]) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._database.execute(query, key).fetchone()
        except sqlite3.Error as exc:
            log.warning("index.not_read", extra=fields(error=str(exc)))
            return None
        return row


@contextmanager
def open_index(path: Path | None, *, recipe: str = "") -> Iterator[Index]:
    """The memory at `path` of what was stored by a recipe; made anew where it is missing, damaged or of another.

    It is kept in this process's memory only where it cannot be written.
    """
    database = _connect(path, recipe)
    try:
        yield Index(database)
    finally:
        database.close()


class _OtherRecipe(sqlite3.DatabaseError):
    """The files were stored in another way, which is nothing wrong."""


def _connect(path: Path | None, recipe: str) -> sqlite3.Connection:
    if path is not None:
        try:
            ensure_folder(path.parent)
            for _ in range(2):
                try:
                    return _prepare(sqlite3.connect(path, timeout=5), recipe)
                except _OtherRecipe:
                    log.info("index.forgotten", extra=fields(path=path))
                    path.unlink(missing_ok=True)
                except sqlite3.Error as exc:
                    log.warning("index.made_anew", extra=fields(path=path, error=str(exc)))
                    path.unlink(missing_ok=True)
        except OSError as exc:
            log.warning("index.not_opened", extra=fields(path=path, error=str(exc)))
    return _prepare(sqlite3.connect(":memory:"), recipe)


def _prepare(database: sqlite3.Connection, recipe: str) -> sqlite3.Connection:
    try:
        # its only user; a lock for each look would cost more than the look
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(f"BEGIN; {_CREATE} PRAGMA user_version = {_VERSION}; COMMIT;")
            database.execute("INSERT INTO recipe VALUES (?)", (recipe,))
            database.commit()
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"version {version}")
        known = database.execute("SELECT text FROM recipe").fetchall()
        if known != [(recipe,)]:
            raise _OtherRecipe
        database.execute("SELECT count(*) FROM (SELECT 1 FROM files LIMIT 1)").fetchone()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _chunks(text: str) -> tuple[Chunk, ...]:
    return tuple(Chunk(offset, size, parse_digest(one)) for offset, size, one in json.loads(text))


def _signed(number: int) -> int:
    """A 64-bit number as SQLite holds it."""
    return number - (1 << 64) if number >> 63 else number
