"""A catalog's SQLite schema, and the way between its rows and values; opening the file is its reader's business.

Connections must use `text_factory = bytes`: names are raw bytes. Flow of a lookup: `path_key` → `SELECT_BY_KEY`-like
queries over `entry_columns` → `parse_entry`.
Source: docs/formats/repository.md, "Catalogs".
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cernvm.core.digest import DIGEST_BYTES, Algorithm, Digest, parse_digest
from cernvm.core.errors import CatalogFormatError, FormatError
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import NO_XATTRS, Chunk, Entry, EntryFlag, NestedCatalog
from cernvm.fs.format.xattrs import format_xattrs, parse_xattrs

SCHEMA = "2.5"
SCHEMA_REVISION = 7
MAX_CATALOG_BYTES = 1 << 31
MAX_PATH_BYTES = 4096  # of a nested catalog
AUTOCATALOG_MARKER = b".cvmfsautocatalog"
CATALOG_MARKER = b".cvmfscatalog"

CREATE = """\
CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER, \
hardlinks INTEGER, hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, mtimens INTEGER, flags INTEGER, \
name TEXT, symlink TEXT, uid INTEGER, gid INTEGER, xattr BLOB, \
CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2);
CREATE TABLE chunks (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB, \
CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size), \
FOREIGN KEY (md5path_1, md5path_2) REFERENCES catalog(md5path_1, md5path_2));
CREATE TABLE nested_catalogs (path TEXT, sha1 TEXT, size INTEGER, \
CONSTRAINT pk_nested_catalogs PRIMARY KEY (path));
CREATE TABLE bind_mountpoints (path TEXT, sha1 TEXT, size INTEGER, \
CONSTRAINT pk_bind_mountpoints PRIMARY KEY (path));
CREATE TABLE statistics (counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter));
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
"""
# text may be any bytes, which only a cast can bind as TEXT
INSERT_ENTRY = (
    "INSERT INTO catalog (md5path_1, md5path_2, parent_1, parent_2, hardlinks, hash, size, mode, mtime, mtimens,"
    " flags, name, symlink, uid, gid, xattr)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?)"
)
INSERT_CHUNK = (
    "INSERT INTO chunks (md5path_1, md5path_2, offset, size, hash) VALUES (?, ?, ?, ?, ?)"
)
INSERT_NESTED = "INSERT INTO nested_catalogs (path, sha1, size) VALUES (CAST(? AS TEXT), ?, ?)"
SELECT_CHUNKS = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ? AND md5path_2 = ?"
SELECT_PROPERTIES = "SELECT key, value FROM properties"
SELECT_STATISTICS = "SELECT counter, value FROM statistics"

# Before 2.0: no hard links, owners, chunks, algorithms; bit 16 meant nothing.
_LEGACY_COLUMNS = (
    "1 AS hardlinks, hash, size, mode, mtime, flags & 0x2f AS flags, name, symlink,"
    " {uid} AS uid, {gid} AS gid, NULL AS xattr, NULL AS mtimens"
)
_LEGACY_BELOW = (2, 0)
_READABLE = ((2, 5), (2, 4))
_SCHEMA_TEXT = re.compile(r"(\d{1,3})\.(\d{1,3})(\.0+)?")

_COLUMNS = ("hardlinks", "hash", "size", "mode", "mtime", "flags", "name", "symlink", "uid", "gid")
_ADDED_COLUMNS = (("xattr", 2), ("mtimens", 7))  # name, schema revision that brought it
_HASH_SHIFT, _COMPRESSION_SHIFT, _ALGORITHM_BITS = 8, 11, 0b111
_KNOWN_FLAGS = sum(int(flag) for flag in EntryFlag)
_SYMLINK = int(EntryFlag.SYMLINK)
_PAIR = struct.Struct("<qq")
_ALGORITHMS = tuple(Algorithm)  # by their flag
_COMPRESSIONS = tuple(Compression)
_GROUP_SHIFT, _COUNT_MASK = 32, 0xFFFF_FFFF
_MAX_CATALOG_REFERENCE = 200

PathKey = tuple[int, int]
Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Properties:
    """What a catalog says of itself.

    Shape: `root_prefix` is the path of a nested catalog's root, empty for the root catalog; `ttl_s` None where unset;
    `schema` is major and minor; `membership`, as `KIND%TEXT`, is asked of readers of a protected repository, empty
    where all may read.
    """

    schema_revision: int
    revision: int
    last_modified_s: int
    previous: Digest | None = None
    root_prefix: bytes = b""
    ttl_s: int | None = None
    membership: str = ""
    schema: tuple[int, int] = (2, 5)

    @property
    def is_legacy(self) -> bool:
        """Whether it is of the time before 2.0, of which `legacy_columns` are to be read."""
        return self.schema < _LEGACY_BELOW


def path_key(path: bytes) -> PathKey:
    """The key of a path: its MD5 as two little-endian signed numbers; the root is the empty path.

    >>> path_key(b"")
    (338333539836370388, 9098107892288553193)
    """
    first, second = _PAIR.unpack(hashlib.md5(path, usedforsecurity=False).digest())
    return first, second


def entry_columns(schema_revision: int) -> str:
    """The select list that `parse_entry` takes, with NULL for columns that a schema revision does not have yet."""
    added = (
        name if schema_revision >= since else f"NULL AS {name}" for name, since in _ADDED_COLUMNS
    )
    return ", ".join((*_COLUMNS, *added))


def legacy_columns(*, uid: int, gid: int) -> str:
    """As `entry_columns`, for schemas before 2.0; they have no owners, so all belongs to who is named."""
    return _LEGACY_COLUMNS.format(uid=uid, gid=gid)


def nested_columns(schema_revision: int) -> str:
    """The select list of `nested_catalogs` that `parse_nested` takes; sizes may be missing in rows of before."""
    return f"path, sha1, {'ifnull(size, 0)' if schema_revision >= 1 else '0'} AS size"


def parse_entry(row: Row) -> Entry:
    """The entry that a row of `entry_columns` holds.

    Errors: `CatalogFormatError` for values of the wrong type or out of range; catalogs are signed, not trusted to be
    well formed.
    """
    hardlinks, raw, size, mode, mtime, flags, name, symlink, uid, gid, xattr, mtime_ns = row
    if type(name) is not bytes:
        name = _as_bytes(name, "name")
    if (
        not int is type(hardlinks) is type(size) is type(mode) is type(mtime) is type(flags)
        or not int is type(uid) is type(gid)
        or not (mtime_ns is None or type(mtime_ns) is int)
    ):
        raise CatalogFormatError("a number is missing", where=f"entry {name[:80]!r}")
    # by place, as the fields stand: this runs for every path that is looked up or listed
    return Entry(
        name,
        mode,
        size,
        mtime,
        uid & _COUNT_MASK,
        gid & _COUNT_MASK,
        flags & _KNOWN_FLAGS,
        mtime_ns,
        None if raw is None else _parse_raw(raw, flags),
        compression_of(flags),
        _as_bytes(symlink, "symlink") if flags & _SYMLINK else b"",
        (hardlinks >> _GROUP_SHIFT) & _COUNT_MASK,
        hardlinks & _COUNT_MASK,
        NO_XATTRS if xattr is None else parse_xattrs(_as_bytes(xattr, "xattr")),
    )


def format_entry(
    entry: Entry, path: bytes, *, algorithm: Algorithm, parent: PathKey | None = None
) -> tuple[Any, ...]:
    """The row for `INSERT_ENTRY`; `algorithm` is that of a chunked file's chunks, `parent` its directory's key."""
    if parent is None:
        parent = path_key(path.rpartition(b"/")[0]) if path else (0, 0)
    flags = int(entry.flags)
    if entry.digest is not None or entry.is_chunked:
        used = algorithm if entry.digest is None else entry.digest.algorithm
        flags |= used.flag << _HASH_SHIFT | entry.compression << _COMPRESSION_SHIFT
    return (
        *path_key(path),
        *parent,
        entry.hardlink_group << _GROUP_SHIFT | entry.link_count,
        None if entry.digest is None else entry.digest.raw,
        entry.size,
        entry.mode,
        entry.mtime_s,
        entry.mtime_ns,
        flags,
        entry.name,
        entry.symlink,
        entry.uid,
        entry.gid,
        format_xattrs(entry.xattrs) if entry.xattrs else None,
    )


def parse_chunk(row: Row, *, algorithm: Algorithm) -> Chunk:
    """The chunk that a row of `SELECT_CHUNKS` holds; the algorithm is the file's (`chunk_algorithm`)."""
    offset, size, raw = row
    if type(offset) is not int or type(size) is not int or not isinstance(raw, bytes):
        raise CatalogFormatError("a chunk's row has values of the wrong kind", where="chunks")
    if len(raw) != DIGEST_BYTES or offset < 0 or size <= 0:
        raise CatalogFormatError("a chunk's row is out of range", where="chunks")
    return Chunk(offset, size, Digest(algorithm, raw))


def chunk_algorithm(flags: int) -> Algorithm:
    """The hash algorithm that the raw value of a flags column names."""
    number = flags >> _HASH_SHIFT & _ALGORITHM_BITS
    if number >= len(_ALGORITHMS):
        raise CatalogFormatError(f"unknown hash algorithm number {number}", where="flags")
    return _ALGORITHMS[number]


def parse_nested(row: Row) -> NestedCatalog:
    """The reference that a row of `nested_columns` holds."""
    path, text, size = row
    path = _as_bytes(path, "nested path")
    if (
        not path.startswith(b"/")
        or path.endswith(b"/")
        or len(path) > MAX_PATH_BYTES
        or b"\0" in path
    ):
        raise CatalogFormatError(f"{path[:80]!r} is no path", where="nested_catalogs")
    if any(part in (b"", b".", b"..") for part in path[1:].split(b"/")):
        raise CatalogFormatError(f"{path[:80]!r} is no plain path", where="nested_catalogs")
    if type(size) is not int or size < 0:
        raise CatalogFormatError("a size is missing", where=f"nested catalog {path[:80]!r}")
    raw = _as_bytes(text, "nested digest")[:_MAX_CATALOG_REFERENCE]
    try:
        return NestedCatalog(path, parse_digest(raw.decode("ascii", "replace")), size)
    except FormatError as exc:
        raise CatalogFormatError(exc.reason, where=f"nested catalog {path[:80]!r}") from None


def format_nested(nested: NestedCatalog) -> tuple[bytes, str, int]:
    """The row for `INSERT_NESTED`."""
    return nested.path, str(nested.digest), nested.size_bytes


def parse_properties(rows: Sequence[Row], *, may_be_legacy: bool = False) -> Properties:
    """What the rows of `SELECT_PROPERTIES` say.

    Errors: `CatalogFormatError` for another schema than 2.5, whose higher revisions only add, and 2.4, which has the
    columns of 2.5's revision 0; before 2.0 only where `may_be_legacy`.
    """
    values = {_as_bytes(key, "property"): value for key, value in rows}
    named = _SCHEMA_TEXT.fullmatch(_as_text(values.get(b"schema", "")))
    schema = (int(named[1]), int(named[2])) if named else _LEGACY_BELOW
    if schema not in _READABLE and not (may_be_legacy and schema < _LEGACY_BELOW):
        raise CatalogFormatError(
            f"schema {values.get(b'schema')!r} is not {SCHEMA}", where="properties"
        )
    prefix = _as_bytes(values.get(b"root_prefix", b""), "root_prefix")
    return Properties(
        schema_revision=_number(values, b"schema_revision") or 0,
        revision=_number(values, b"revision") or 0,
        last_modified_s=_number(values, b"last_modified") or 0,
        previous=_previous(values),
        root_prefix=prefix,
        ttl_s=_number(values, b"TTL"),
        membership=_as_text(values.get(b"voms_authz", "")),
        schema=schema,
    )


def format_properties(properties: Properties) -> list[tuple[str, Any]]:
    """The rows of the properties table; `root_prefix` stays bytes, to be cast to TEXT."""
    previous = properties.previous
    rows: list[tuple[str, Any]] = [
        ("schema", SCHEMA),
        ("schema_revision", str(properties.schema_revision)),
        ("revision", str(properties.revision)),
        ("last_modified", str(properties.last_modified_s)),
    ]
    if previous is not None:
        rows.append(("previous_revision", str(previous)))
    if properties.root_prefix:
        rows.append(("root_prefix", properties.root_prefix))
    if properties.ttl_s is not None:
        rows.append(("TTL", str(properties.ttl_s)))
    if properties.membership:
        rows.append(("voms_authz", properties.membership))
    return rows


def _parse_raw(raw: object, flags: int) -> Digest:
    if not isinstance(raw, bytes) or len(raw) != DIGEST_BYTES:
        raise CatalogFormatError("a digest does not have 20 bytes", where="hash")
    return Digest(chunk_algorithm(flags), raw)


def compression_of(flags: int) -> Compression:
    """The compression that the raw value of a flags column names."""
    number = flags >> _COMPRESSION_SHIFT & _ALGORITHM_BITS
    if number >= len(_COMPRESSIONS):
        raise CatalogFormatError(f"unknown compression number {number}", where="flags")
    return _COMPRESSIONS[number]


def _as_bytes(value: object, what: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    raise CatalogFormatError(f"a {what} is no text", where="catalog")


def _as_text(value: object) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _number(values: Mapping[bytes, object], key: bytes) -> int | None:
    if key not in values:
        return None
    text = _as_text(values[key])
    if not text.isascii() or not text.isdecimal() or len(text) > 20:
        raise CatalogFormatError(f"{text[:40]!r} is no number", where=f"property {key.decode()}")
    return int(text)


def _previous(values: Mapping[bytes, object]) -> Digest | None:
    text = _as_text(values.get(b"previous_revision", b""))[:_MAX_CATALOG_REFERENCE]
    if not text:
        return None
    try:
        digest = parse_digest(text)
    except FormatError as exc:
        raise CatalogFormatError(exc.reason, where="property previous_revision") from None
    return digest if any(digest.raw) else None
