"""The publisher's memory: which files it has stored as what, so that an unchanged one is not read again.

A file counts as unchanged while device, inode, size, mtime *and ctime* are the same: nobody can set a ctime back. A
file that changed in the last seconds before it was read is not remembered, as a later change could carry the same
time. The memory is a plain speed-up: it may be deleted at any time, and whatever it names must still be in the store.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cernvm.core.digest import parse_digest
from cernvm.core.errors import FormatError
from cernvm.core.home import ensure_folder
from cernvm.core.log import fields
from cernvm.fs.format.entry import Chunk, NestedCatalog
from cernvm.fs.format.pack import Pack
from cernvm.fs.format.statistics import NAMES, Counters
from cernvm.fs.publish.content import Content

log = logging.getLogger(__name__)

_SETTLED_NS = 2 * 10**9  # the coarsest clock of a file system
_VERSION = 1
_CREATE = """\
CREATE TABLE files (device INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    digest TEXT, chunks TEXT, PRIMARY KEY (device, inode)) WITHOUT ROWID;
CREATE TABLE catalogs (prefix BLOB PRIMARY KEY, fingerprint BLOB, digest TEXT, size INTEGER, counters TEXT);
"""
# not in the first version, and no reason to forget all else
_CREATE_PACKS = """\
CREATE TABLE IF NOT EXISTS packs (fingerprint BLOB PRIMARY KEY, digest TEXT, size INTEGER, objects INTEGER)
"""


@dataclass(frozen=True, slots=True)
class KnownCatalog:
    """A nested catalog as it was last published: the fingerprint of its rows, where it is, what it counts in all."""

    fingerprint: bytes
    nested: NestedCatalog
    total: Counters


class Index:
    """The memory of one repository's publisher; `remember_*` are kept by `save` only."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._files: list[tuple[object, ...]] = []
        self._catalogs: list[tuple[object, ...]] = []
        self._packs: dict[bytes, Pack] = {}

    def file(self, status: os.stat_result) -> Content | None:
        """What was stored for the file with these attributes; None for a new or changed one."""
        row = self._row(
            "SELECT size, mtime_ns, ctime_ns, digest, chunks FROM files WHERE device = ? AND inode = ?",
            (_signed(status.st_dev), _signed(status.st_ino)),
        )
        if row is None or row[:3] != (status.st_size, status.st_mtime_ns, status.st_ctime_ns):
            return None
        try:
            digest = parse_digest(row[3]) if row[3] else None
            chunks = tuple(Chunk(o, s, parse_digest(d)) for o, s, d in json.loads(row[4]))
        except (FormatError, ValueError, TypeError):
            return None
        return Content(status.st_size, digest, chunks)

    def remember_file(self, status: os.stat_result, content: Content) -> None:
        """Note what a file was stored as, unless it changed too recently to be sure."""
        if time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) < _SETTLED_NS:
            return
        chunks = [(chunk.offset, chunk.size, str(chunk.digest)) for chunk in content.chunks]
        self._files.append(
            (
                _signed(status.st_dev),
                _signed(status.st_ino),
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
                "" if content.digest is None else str(content.digest),
                json.dumps(chunks),
            )
        )

    def catalog(self, prefix: bytes) -> KnownCatalog | None:
        """The nested catalog last published at a path."""
        row = self._row(
            "SELECT fingerprint, digest, size, counters FROM catalogs WHERE prefix = ?", (prefix,)
        )
        try:
            if row is None:
                return None
            counters = Counters(**{name: int(value) for name, value in json.loads(row[3]).items()})
            return KnownCatalog(
                row[0], NestedCatalog(prefix, parse_digest(row[1]), row[2]), counters
            )
        except (FormatError, ValueError, TypeError, AttributeError):
            return None

    def remember_catalog(self, known: KnownCatalog) -> None:
        """Note a nested catalog of the revision that is being published."""
        counters = {name: getattr(known.total, name) for name in NAMES}
        nested = known.nested
        self._catalogs.append(
            (
                nested.path,
                known.fingerprint,
                str(nested.digest),
                nested.size_bytes,
                json.dumps(counters),
            )
        )

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

    def save(self) -> None:
        """Keep what was remembered; call it once the revision is durable."""
        try:
            with self._database as database:
                database.executemany(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", self._files
                )
                database.executemany(
                    "INSERT OR REPLACE INTO catalogs VALUES (?, ?, ?, ?, ?)", self._catalogs
                )
                database.executemany(
                    "INSERT OR REPLACE INTO packs VALUES (?, ?, ?, ?)",
                    [
                        (fingerprint, str(pack.digest), pack.size_bytes, pack.object_count)
                        for fingerprint, pack in self._packs.items()
                    ],
                )
        except sqlite3.Error as exc:
            # the revision stands; the next publication reads more files than it would have to
            log.warning("index.not_saved", extra=fields(error=str(exc)))
        self._files.clear()
        self._catalogs.clear()
        self._packs.clear()

    def _row(self, query: str, key: tuple[object, ...]) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._database.execute(query, key).fetchone()
        except sqlite3.Error as exc:
            log.warning("index.not_read", extra=fields(error=str(exc)))
            return None
        return row


@contextmanager
def open_index(path: Path | None) -> Iterator[Index]:
    """The memory at `path`, made anew where it is missing or damaged, kept in memory only where it cannot be."""
    database = _connect(path)
    try:
        yield Index(database)
    finally:
        database.close()


def _connect(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        try:
            ensure_folder(path.parent)
            for _ in range(2):
                try:
                    return _prepare(sqlite3.connect(path, timeout=5))
                except sqlite3.Error as exc:
                    log.warning("index.made_anew", extra=fields(path=path, error=str(exc)))
                    path.unlink(missing_ok=True)
        except OSError as exc:
            log.warning("index.not_opened", extra=fields(path=path, error=str(exc)))
    return _prepare(sqlite3.connect(":memory:"))


def _prepare(database: sqlite3.Connection) -> sqlite3.Connection:
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"version {version}")
        if version == 0:
            database.executescript(f"BEGIN; {_CREATE} PRAGMA user_version = {_VERSION}; COMMIT;")
        database.execute(_CREATE_PACKS)
        database.execute("SELECT count(*) FROM catalogs").fetchone()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _signed(number: int) -> int:
    """A 64-bit number as SQLite holds it."""
    return number - (1 << 64) if number >> 63 else number
