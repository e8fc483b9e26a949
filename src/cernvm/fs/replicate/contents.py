"""What one catalog asks for: every object that its rows name, and the catalogs right below it.

A catalog is signed, and read with suspicion all the same: plain tables only, no query without an end.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.digest import DIGEST_BYTES, Digest
from cernvm.core.errors import CatalogFormatError, FormatError
from cernvm.fs.format import catalog as rows
from cernvm.fs.format.catalog import MAX_CATALOG_BYTES, chunk_algorithm
from cernvm.fs.format.compress import Compression, Inflater
from cernvm.fs.format.entry import EntryFlag, NestedCatalog
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.pack import Pack
from cernvm.fs.format.pack_table import (
    MAX_PACKS,
    MAX_PROFILES,
    PACKS_TABLE,
    PROFILES_TABLE,
    SELECT_PACKED_REVISION,
    SELECT_PACKS,
    SELECT_PROFILES,
    parse_pack_table,
    parse_profile_rows,
)
from cernvm.fs.survey.database import unpack_catalog

MAX_QUERY_S = 60.0
_STEPS_BETWEEN_CHECKS = 1_000_000
_ROWS = 1024
_FILES = "SELECT hash, size, flags FROM catalog WHERE hash IS NOT NULL AND (flags & :kinds) = :file"
_CHUNKS = (
    "SELECT c.hash, c.size, f.flags FROM chunks AS c CROSS JOIN catalog AS f"
    " WHERE f.md5path_1 = c.md5path_1 AND f.md5path_2 = c.md5path_2 AND (f.flags & :kinds) = :file"
)
_KINDS = {
    "kinds": int(EntryFlag.FILE | EntryFlag.SYMLINK | EntryFlag.SPECIAL | EntryFlag.EXTERNAL),
    "file": int(EntryFlag.FILE),
}
_TABLES = "SELECT type, name, rootpage FROM sqlite_master"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object that a catalog names. Units: `size_bytes` of content, a hint for how much will come."""

    digest: Digest
    kind: ObjectKind
    size_bytes: int


class Contents:
    """An open catalog, whose objects are listed row by row; `close` lets go of it.

    Errors: `CatalogFormatError` from every verb. Concurrency: one thread.
    """

    def __init__(self, digest: Digest, stored: bytes, file: Path) -> None:
        self.digest = digest
        _inflate_into(file, stored)
        self._file = file
        self._ends_at_s = time.monotonic() + MAX_QUERY_S
        self._database = sqlite3.connect(
            f"{file.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None
        )
        self._database.text_factory = bytes
        self._database.set_progress_handler(self._is_late, _STEPS_BETWEEN_CHECKS)
        try:
            with self._format_errors():
                self._read_head()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the database and remove its file."""
        self._database.close()
        self._file.unlink(missing_ok=True)

    def check_place(self, path: bytes) -> None:
        """Refuse a catalog that does not belong at this path, or names one that lies outside of it."""
        prefix = self.properties.root_prefix
        place = f"catalog {self.digest}"
        if prefix != path and not self.properties.is_legacy:
            raise CatalogFormatError(f"it is of {prefix[:80]!r}, not {path[:80]!r}", where=place)
        for nested in self.nested:
            if not nested.path.startswith(path + b"/"):
                raise CatalogFormatError(f"{nested.path[:80]!r} lies outside", where=place)

    def objects(self) -> Iterator[Wanted]:
        """The files' contents and chunks; one may come several times."""
        with self._format_errors():
            yield from self._listed(_FILES, ObjectKind.PLAIN)
            if b"chunks" in self._tables:
                yield from self._listed(_CHUNKS, ObjectKind.PARTIAL)

    def _read_head(self) -> None:
        self._database.execute("PRAGMA trusted_schema = OFF")
        listed = self._database.execute(_TABLES).fetchall()
        if any(kind not in (b"table", b"index") or not page for kind, _, page in listed):
            raise CatalogFormatError("it holds more than tables and indices")
        self._tables = {name for kind, name, _ in listed if kind == b"table"}
        self.properties = rows.parse_properties(
            self._database.execute(rows.SELECT_PROPERTIES).fetchall(), may_be_legacy=True
        )
        columns = rows.nested_columns(self.properties.schema_revision)
        found = self._database.execute(f"SELECT {columns} FROM nested_catalogs")  # noqa: S608
        self.nested: tuple[NestedCatalog, ...] = tuple(map(rows.parse_nested, found))
        self.packs: tuple[Pack, ...] = ()
        self.profiles: dict[str, Digest] = {}
        made_for = self._database.execute(SELECT_PACKED_REVISION).fetchone()
        if made_for is None or made_for[0] != b"%d" % self.properties.revision:
            return
        if PACKS_TABLE in self._tables:
            packs = self._database.execute(f"{SELECT_PACKS} LIMIT {MAX_PACKS + 1}").fetchall()
            self.packs = tuple(one.pack for one in parse_pack_table(packs).stretches)
        if PROFILES_TABLE in self._tables:
            named = self._database.execute(f"{SELECT_PROFILES} LIMIT {MAX_PROFILES + 1}").fetchall()
            self.profiles = parse_profile_rows(named)

    def _listed(self, sql: str, kind: ObjectKind) -> Iterator[Wanted]:
        cursor = self._database.execute(sql, _KINDS)
        while True:
            self._ends_at_s = time.monotonic() + MAX_QUERY_S
            some = cursor.fetchmany(_ROWS)
            for raw, size, flags in some:
                if type(raw) is not bytes or len(raw) != DIGEST_BYTES or type(size) is not int:
                    raise CatalogFormatError("a row names no object")
                yield Wanted(Digest(chunk_algorithm(flags), raw), kind, size)
            if len(some) < _ROWS:
                return

    def _is_late(self) -> bool:
        return time.monotonic() > self._ends_at_s

    @contextmanager
    def _format_errors(self) -> Iterator[None]:
        """Name the catalog in every error of its content."""
        place = f"catalog {self.digest}"
        try:
            yield
        except FormatError as error:
            raise CatalogFormatError(error.reason, where=place) from None
        except (sqlite3.Error, UnicodeError) as error:
            raise CatalogFormatError(f"it cannot be read: {error}", where=place) from error


def objects_at(stored: bytes, holds: Callable[[bytes], bool]) -> Iterator[Wanted]:
    """Of a catalog on the way to what is wanted, the objects of the paths for which `holds` says yes."""
    inflater = Inflater(Compression.ZLIB, limit_bytes=MAX_CATALOG_BYTES)
    content = b"".join(inflater.feed(stored))
    for item in unpack_catalog(content).items:
        entry = item.entry
        if entry.is_external or not holds(item.path):
            continue
        if entry.digest is not None:
            yield Wanted(entry.digest, ObjectKind.PLAIN, entry.size)
        for chunk in item.chunks:
            yield Wanted(chunk.digest, ObjectKind.PARTIAL, chunk.size)


def _inflate_into(file: Path, stored: bytes) -> None:
    inflater = Inflater(Compression.ZLIB, limit_bytes=MAX_CATALOG_BYTES)
    with file.open("wb") as out:
        for piece in inflater.feed(stored):
            out.write(piece)
        inflater.finish()
