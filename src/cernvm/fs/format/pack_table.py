"""The table that leads from a path to the pack that holds it, in the catalog that holds the path.

A catalog's small files are packed in *packing order*: depth first, what lies in a directory before what lies in the
directories below it, names by the hash of their path, in which a mount lists them too. A pack holds the small files of
one stretch of that order, so that a row needs no more than its ends, and a directory, a subtree and what comes next in
a walk are neighbours.
Source: docs/formats/packs.md, "The tables of a catalog".
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import CatalogFormatError, FormatError
from cernvm.fs.format.catalog import path_key
from cernvm.fs.format.entry import Entry, EntryKind
from cernvm.fs.format.pack import Pack

PACKS_TABLE = b"packs"
PROFILES_TABLE = b"profiles"
PACKED_REVISION = (
    "packed_revision"  # a property: the tables are of use while it equals the catalog's revision
)
MAX_PACKS = 1 << 14
MAX_PROFILES = 1 << 10
MAX_LABEL_LENGTH = 64
SMALL_BYTES = 128 << 10  # of content: larger files are not packed with their directory

CREATE_PACKS = """\
CREATE TABLE packs (first BLOB, last BLOB, hash TEXT, size INTEGER, objects INTEGER, \
CONSTRAINT pk_packs PRIMARY KEY (first)) WITHOUT ROWID;
"""
CREATE_PROFILES = """\
CREATE TABLE profiles (label TEXT, hash TEXT, CONSTRAINT pk_profiles PRIMARY KEY (label));
"""
INSERT_PACK = "INSERT INTO packs (first, last, hash, size, objects) VALUES (?, ?, ?, ?, ?)"
INSERT_PROFILE = "INSERT INTO profiles (label, hash) VALUES (?, ?)"
SELECT_PACKS = "SELECT first, last, hash, size, objects FROM packs"  # fetch MAX_PACKS + 1 at most
SELECT_PROFILES = "SELECT label, hash FROM profiles"  # fetch MAX_PROFILES + 1 at most
SELECT_TABLES = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('packs', 'profiles')"
)
SELECT_PACKED_REVISION = f"SELECT value FROM properties WHERE key = '{PACKED_REVISION}'"  # noqa: S608

_LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")
MAX_PATH_BYTES = 4096
_MAX_HASHED_BYTES = 128 << 20  # to find the places of all stretches; a second's work
_MAX_DIGEST_BYTES = 60

_END = 1 << 62  # greater than any place
_LISTING_MASK = _END - 1  # of a path's hash: the offsets of a directory's listing have 63 bits

PackingKey = tuple[tuple[int, ...], int]


@dataclass(frozen=True, slots=True)
class PackedStretch:
    """A pack, and the paths of the first and the last file, in packing order, that it holds."""

    first: bytes
    last: bytes
    pack: Pack


def packing_key(path: bytes) -> PackingKey:
    """What files are packed in the order of: their directories from the root down, then their own place."""
    return _way(path.rpartition(b"/")[0]), path_key(path)[0] & _LISTING_MASK


def packing_keys(paths: Sequence[bytes], firsts: Sequence[int] | None = None) -> list[PackingKey]:
    """The `packing_key` of each path; quicker for many that share their directories.

    Shape: `firsts` are the first halves of the paths' keys, where they are at hand.
    """
    ways: dict[bytes, tuple[int, ...]] = {}
    keys = []
    for path, first in zip(paths, firsts or (path_key(path)[0] for path in paths), strict=True):
        folder = path.rpartition(b"/")[0]
        way = ways.get(folder)
        if way is None:
            way = ways[folder] = _way(folder)
        keys.append((way, first & _LISTING_MASK))
    return keys


def is_packed(entry: Entry) -> bool:
    """Whether a publisher that makes packs puts this file into one."""
    return (
        entry.kind is EntryKind.FILE
        and entry.size <= SMALL_BYTES
        and entry.digest is not None
        and not entry.is_chunked
        and not entry.is_external
    )


class PackTable:
    """The packs of one catalog, in packing order; paths are as the catalog's rows know them."""

    def __init__(self, stretches: Iterable[PackedStretch]) -> None:
        self.stretches: Sequence[PackedStretch] = sorted(
            stretches, key=lambda stretch: packing_key(stretch.first)
        )
        self._firsts = [packing_key(stretch.first) for stretch in self.stretches]
        self._lasts = [packing_key(stretch.last) for stretch in self.stretches]
        previous: PackingKey | None = None
        for first, last in zip(self._firsts, self._lasts, strict=True):
            if last < first or (previous is not None and first <= previous):
                raise CatalogFormatError("stretches overlap", where="packs")
            previous = last

    def of_file(self, path: bytes) -> Pack | None:
        """The pack that holds a small file."""
        key = packing_key(path)
        at = bisect.bisect_right(self._firsts, key) - 1
        return self.stretches[at].pack if at >= 0 and key <= self._lasts[at] else None

    def of_directory(self, path: bytes) -> Sequence[Pack]:
        """The packs that hold the small files of a directory, but not of those below it.

        A directory without small files may be given the pack around it.
        """
        way = _way(path)
        return self._between((way, 0), (way, _END))

    def of_subtree(self, path: bytes) -> Sequence[Pack]:
        """The packs that hold the small files of a directory and of all below it in this catalog."""
        way = _way(path)
        return self._between((way, 0), ((*way, _END), 0))

    def after(self, path: bytes, count: int) -> Sequence[Pack]:
        """The packs that come next in a depth-first walk which has come to a file."""
        at = bisect.bisect_right(self._firsts, packing_key(path))
        return [stretch.pack for stretch in self.stretches[at : at + count]]

    def _between(self, begin: PackingKey, end: PackingKey) -> Sequence[Pack]:
        """The packs with a file from `begin` on and before `end`, as far as the stretches' ends tell."""
        low = bisect.bisect_left(self._lasts, begin)
        high = bisect.bisect_left(self._firsts, end)
        return [stretch.pack for stretch in self.stretches[low:high]]


def format_stretch(stretch: PackedStretch) -> tuple[bytes, bytes, str, int, int]:
    """The row for `INSERT_PACK`."""
    pack = stretch.pack
    return stretch.first, stretch.last, str(pack.digest), pack.size_bytes, pack.object_count


def parse_pack_table(rows: Sequence[Sequence[Any]]) -> PackTable:
    """The packs that the rows of `SELECT_PACKS` name; `CatalogFormatError` where they make no sense."""
    if len(rows) > MAX_PACKS:
        raise CatalogFormatError("names too many packs", where="packs")
    stretches = [_parse_stretch(row) for row in rows]
    if count_readable(stretches) < len(stretches):
        raise CatalogFormatError("paths are too deep", where="packs")
    return PackTable(stretches)


def count_readable(stretches: Sequence[PackedStretch]) -> int:
    """How many of the stretches, from the first on, may stand in one table."""
    hashed_bytes = 0
    for count, one in enumerate(stretches):
        # each directory on the way to a path is hashed with all that is above it
        hashed_bytes += sum(len(path) * path.count(b"/") for path in (one.first, one.last))
        if count == MAX_PACKS or hashed_bytes > _MAX_HASHED_BYTES:
            return count
    return len(stretches)


def parse_profile_rows(rows: Sequence[Sequence[Any]]) -> dict[str, Digest]:
    """The profile objects, by label, that the rows of `SELECT_PROFILES` name."""
    if len(rows) > MAX_PROFILES:
        raise CatalogFormatError("names too many profiles", where="profiles")
    found = {}
    for label, digest in rows:
        text = _text(label)
        if not is_label(text):
            raise CatalogFormatError(f"{text[:80]!r} is no label", where="profiles")
        found[text] = _digest(digest, "profiles")
    return found


def is_label(text: str) -> bool:
    """Whether a profile may be called so: 1 to 64 letters, digits and . _ + -, the first a letter or digit."""
    return (
        0 < len(text) <= MAX_LABEL_LENGTH
        and _LABEL_CHARACTERS.issuperset(text)
        and text[0].isalnum()
    )


def _way(folder: bytes) -> tuple[int, ...]:
    """The places of the directories on the way to one, itself included; the root has none."""
    parts = folder.split(b"/")
    paths = (b"/".join(parts[:depth]) for depth in range(2, len(parts) + 1))
    return tuple(path_key(path)[0] & _LISTING_MASK for path in paths)


def _parse_stretch(row: Sequence[Any]) -> PackedStretch:
    first, last, digest, size_bytes, object_count = row
    if type(size_bytes) is not int or type(object_count) is not int:
        raise CatalogFormatError("a number is missing", where="packs")
    for path in (first, last):
        if type(path) is not bytes or not path.startswith(b"/") or len(path) > MAX_PATH_BYTES:
            raise CatalogFormatError("a path is none", where="packs")
    try:
        pack = Pack(_digest(digest, "packs"), size_bytes, object_count)
    except CatalogFormatError:
        raise
    except FormatError as error:
        raise CatalogFormatError(error.reason, where="packs") from None
    return PackedStretch(first, last, pack)


def _digest(value: object, where: str) -> Digest:
    try:
        return parse_digest(_text(value)[:_MAX_DIGEST_BYTES])
    except FormatError as error:
        raise CatalogFormatError(error.reason, where=where) from None


def _text(value: object) -> str:
    """TEXT as either text factory gives it."""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
