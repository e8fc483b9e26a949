"""Every rule that one catalog must keep by itself, row by row.

Flow: `check_catalog` opens it → `_Rows` walks it directory by directory, as paths and rows belong together → counters,
nested catalogs and tables of packs are compared with what was seen. Memory: the directories of one catalog.
Source: docs/formats/repository.md.
"""

from __future__ import annotations

import sqlite3
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cernvm.core.digest import DIGEST_BYTES, Algorithm, Digest
from cernvm.core.errors import FormatError
from cernvm.fs.format import catalog as rows
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import (
    MAX_NAME_BYTES,
    Chunk,
    Entry,
    EntryFlag,
    EntryKind,
    NestedCatalog,
    check_chunks,
)
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.statistics import NAMES, Statistics, parse_statistics
from cernvm.fs.survey.check.finding import Finding
from cernvm.fs.survey.database import unpack_tables
from cernvm.fs.survey.marks import key_suffix, object_key
from cernvm.fs.survey.references import open_catalog_database

CONTENT_BYTES = 9  # of a record after its key: size of the content, and compression
NAME = 9  # of a row as it is selected
_FILE = int(EntryFlag.FILE)
_NOT_ALGORITHMS = ~(0b111 << 8 | 0b111 << 11)
_ZEROS = bytes(DIGEST_BYTES)
_RESERVED = frozenset({b".", b"..", rows.CATALOG_MARKER})
# by the flags of an ordinary file: the end of its object's key, and its compression
_PLAIN_SUFFIXES = {
    _FILE | one.flag << 8 | packing << 11: (key_suffix(one, ObjectKind.PLAIN), bytes((packing,)))
    for one in Algorithm
    for packing in Compression
}
_BIND = int(EntryFlag.BIND_MOUNTPOINT)
_DANGLING = (
    "SELECT name FROM catalog AS row WHERE (parent_1, parent_2) <> (0, 0) AND NOT EXISTS"
    " (SELECT 1 FROM catalog WHERE (md5path_1, md5path_2) = (row.parent_1, row.parent_2))"
    " LIMIT 20"
)
_STRAY_CHUNKS = (
    "SELECT count(*) FROM chunks WHERE NOT EXISTS (SELECT 1 FROM catalog WHERE flags & 64"
    " AND (md5path_1, md5path_2) = (chunks.md5path_1, chunks.md5path_2))"
)


@dataclass(slots=True)
class Checked:
    """What a catalog is found to hold, for the comparison with those above and below it.

    Shape: `records` are the objects that must be in the store: keys, followed by `CONTENT_BYTES` for files and chunks;
    `mounts` what stands where a nested catalog is mounted; `root` None where there is no readable one.
    """

    catalog: NestedCatalog
    findings: list[Finding] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    nested: tuple[NestedCatalog, ...] = ()
    binds: tuple[NestedCatalog, ...] = ()
    profiles: tuple[tuple[str, Digest], ...] = ()
    mounts: dict[bytes, Entry] = field(default_factory=dict)
    root: Entry | None = None
    statistics: Statistics = field(default_factory=Statistics)
    properties: rows.Properties | None = None
    size_bytes: int = 0
    entries: int = 0


def check_catalog(data: bytes, catalog: NestedCatalog) -> Checked:
    """Check the inflated catalog that another one, or a manifest, names; never raises for what is in it."""
    checked = Checked(catalog, size_bytes=len(data))
    try:
        with open_catalog_database(data, catalog) as database:
            _Rows(database, checked).check()
    except (FormatError, sqlite3.Error, OverflowError) as error:
        _tell(checked, str(error), catalog.path)
    return checked


def content_record(key: bytes, *, size_bytes: int, compression: Compression) -> bytes:
    """An object's record with what it must inflate to."""
    return key + size_bytes.to_bytes(CONTENT_BYTES - 1, "big") + bytes((compression,))


def _tell(checked: Checked, what: str, path: bytes | None, *, is_note: bool = False) -> None:
    place = object_path(checked.catalog.digest, ObjectKind.CATALOG)
    checked.findings.append(Finding(what, path, place, is_note))


class _Rows:
    """One catalog's rows, compared with each other."""

    def __init__(self, database: sqlite3.Connection, checked: Checked) -> None:
        self._database = database
        self._checked = checked
        self._own = dict.fromkeys(NAMES, 0)
        self._groups: dict[int, list[tuple[bytes, Entry]]] = {}
        self._bound: set[bytes] = set()
        self._has_marker = False

    def check(self) -> None:
        checked, database = self._checked, self._database
        properties = rows.parse_properties(database.execute(rows.SELECT_PROPERTIES).fetchall())
        checked.properties = properties
        prefix = checked.catalog.path
        if properties.root_prefix != prefix:
            self._tell(f"it says it is of {properties.root_prefix!r}", prefix)
        columns = rows.entry_columns(properties.schema_revision)
        # our own columns
        self._select = f"SELECT md5path_1, md5path_2, flags, {columns} FROM catalog WHERE "  # noqa: S608
        checked.nested = self._nested("nested_catalogs", properties)
        checked.binds = self._nested("bind_mountpoints", properties)
        self._walk(prefix)
        self._check_dangling()
        self._check_groups()
        self._check_nested()
        self._check_counters()
        self._check_packs(properties)
        if prefix and not self._has_marker:
            self._tell("a nested catalog without .cvmfscatalog in its root", prefix)

    def _walk(self, prefix: bytes) -> None:
        found = self._database.execute(
            self._select + "md5path_1 = ? AND md5path_2 = ?", rows.path_key(prefix)
        ).fetchall()
        if not found:
            self._tell("it has no root entry", prefix)
            return
        root = self._entry(found[0], prefix)
        if root is None:
            return
        self._checked.root = root
        if not root.is_directory:
            self._tell("its root is no directory", prefix)
            return
        if root.is_nested_root != bool(prefix) or root.is_nested_mountpoint:
            self._tell("its root has flags of something else", prefix)
        waiting = deque([(prefix, root)])
        while waiting:
            path, entry = waiting.popleft()
            waiting.extend(self._check_directory(path, entry))

    def _check_directory(self, path: bytes, folder: Entry) -> Iterator[tuple[bytes, Entry]]:
        """The directories in it, all entries of it checked."""
        select = self._select + "parent_1 = ? AND parent_2 = ?"
        subdirectories = 0
        below = []
        for row in self._odd(path, self._database.execute(select, rows.path_key(path)).fetchall()):
            name = row[NAME] if type(row[NAME]) is bytes else b"?"
            child = path + b"/" + name
            entry = self._entry(row, child)
            if entry is None:
                continue
            if not entry.name or (row[0], row[1]) != rows.path_key(child):
                self._tell("its name and the hash of its path disagree", child)
            if entry.is_nested_root:
                self._tell("it is the root of a nested catalog, and not where one begins", child)
            if entry.name == rows.CATALOG_MARKER:
                self._check_marker(path, child)
            if entry.is_directory:
                subdirectories += 1
                self._check_mount(child, entry)
                below.append((child, entry))
        if folder.is_nested_mountpoint or folder.flags & _BIND:
            if below or subdirectories:
                self._tell("entries stand below a mountpoint, where nobody finds them", path)
        elif folder.link_count != 2 + subdirectories:
            self._tell(
                f"it has {folder.link_count} links, not {2 + subdirectories}: one for each directory in it, and two",
                path,
            )
        return iter(below)

    def _odd(self, path: bytes, found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows of a directory but those of ordinary files with nothing wrong, which are counted and recorded.

        Nearly all rows are of this kind; taking them by their values costs a third of making entries of them.
        """
        start, own, records = path + b"/", self._own, self._checked.records
        odd = []
        for row in found:
            first, second, flags, links, raw, size, mode, _, _, name, _, _, _, xattr, part_ns = row
            if not (
                int is type(flags) is type(size) is type(mode) is type(row[7])
                and int is type(row[11]) is type(row[12])
                and flags & _NOT_ALGORITHMS == _FILE
                and (suffix := _PLAIN_SUFFIXES.get(flags)) is not None
                and links == 1
                and type(raw) is bytes is type(name)
                and len(raw) == DIGEST_BYTES
                and raw != _ZEROS
                and 0 <= size < 1 << 63
                and mode & ~0o7777 == stat.S_IFREG
                and xattr is None
                and (part_ns is None or (type(part_ns) is int and 0 <= part_ns < 10**9))
                and 0 < len(name) <= MAX_NAME_BYTES
                and name not in _RESERVED
                and b"/" not in name
                and b"\0" not in name
                and rows.path_key(start + name) == (first, second)
            ):
                odd.append(row)
                continue
            own["regular"] += 1
            own["file_size"] += size
            key_end, compression = suffix
            records.append(raw + key_end + size.to_bytes(CONTENT_BYTES - 1, "big") + compression)
        self._checked.entries += len(found) - len(odd)
        return odd

    def _entry(self, row: tuple[object, ...], path: bytes) -> Entry | None:
        """The row as an entry that is right in itself, counted; None where it cannot be read."""
        self._checked.entries += 1
        try:
            entry = rows.parse_entry(row[3:])
            chunks = self._chunks(row, entry, path) if entry.is_chunked else ()
        except (FormatError, OverflowError) as error:
            self._tell(str(error), path)
            return None
        self._count(entry, len(chunks))
        self._check_links(path, entry)
        what = _wrong(entry)
        if what:
            self._tell(what, path)
        self._record(entry, chunks)
        return entry

    def _chunks(self, row: tuple[object, ...], entry: Entry, path: bytes) -> tuple[Chunk, ...]:
        algorithm = rows.chunk_algorithm(int(row[2]))  # type: ignore[call-overload]
        found = self._database.execute(rows.SELECT_CHUNKS, rows.path_key(path)).fetchall()
        chunks = tuple(rows.parse_chunk(one, algorithm=algorithm) for one in found)
        try:
            return check_chunks(chunks, size=entry.size, where="chunks")
        except FormatError as error:
            self._tell(error.reason, path)
            return chunks

    def _record(self, entry: Entry, chunks: tuple[Chunk, ...]) -> None:
        if entry.is_external or entry.kind is not EntryKind.FILE:
            return
        if entry.digest is not None:
            key = object_key(entry.digest, ObjectKind.PLAIN)
            record = content_record(key, size_bytes=entry.size, compression=entry.compression)
            self._checked.records.append(record)
        for chunk in chunks:
            key = object_key(chunk.digest, ObjectKind.PARTIAL)
            record = content_record(key, size_bytes=chunk.size, compression=entry.compression)
            self._checked.records.append(record)

    def _count(self, entry: Entry, chunks: int) -> None:
        own = self._own
        own["xattr"] += bool(entry.xattrs)
        kind = entry.kind
        if kind is EntryKind.DIRECTORY:
            own["dir"] += 1
        elif kind is EntryKind.SYMLINK:
            own["symlink"] += 1
        elif kind is EntryKind.SPECIAL:
            own["special"] += 1
        else:
            own["regular"] += 1
            own["file_size"] += entry.size
            if entry.is_chunked:
                own["chunked"] += 1
                own["chunks"] += chunks
                own["chunked_size"] += entry.size
            if entry.is_external:
                own["external"] += 1
                own["external_file_size"] += entry.size

    def _check_links(self, path: bytes, entry: Entry) -> None:
        if entry.link_count == 0:
            self._tell("it has no links", path)
        if entry.is_directory:
            if entry.hardlink_group:
                self._tell("a directory in a group of hard links", path)
        elif entry.hardlink_group:
            self._groups.setdefault(entry.hardlink_group, []).append((path, entry))
        elif entry.link_count > 1:
            self._tell(f"it has {entry.link_count} links and is in no group of them", path)

    def _check_marker(self, folder: bytes, path: bytes) -> None:
        prefix = self._checked.catalog.path
        if folder != prefix:
            self._tell("a marker of a nested catalog where none begins", path)
        self._has_marker = True

    def _check_mount(self, path: bytes, entry: Entry) -> None:
        if entry.is_nested_mountpoint and entry.flags & _BIND:
            self._tell("a mountpoint of two kinds", path)
        if entry.is_nested_mountpoint:
            self._checked.mounts[path] = entry
        if entry.flags & _BIND:
            self._bound.add(path)

    def _check_dangling(self) -> None:
        total = self._database.execute("SELECT count(*) FROM catalog").fetchone()[0]
        if total != self._checked.entries:
            names = [name for (name,) in self._database.execute(_DANGLING)]
            shown = ", ".join(repr(name) for name in names)
            self._tell(
                f"{total - self._checked.entries} entries belong to no directory: {shown}",
                self._checked.catalog.path,
            )
        stray = self._database.execute(_STRAY_CHUNKS).fetchone()[0]
        if stray:
            self._tell(f"{stray} chunks belong to no chunked file", self._checked.catalog.path)

    def _check_groups(self) -> None:
        for members in self._groups.values():
            path, first = members[0]
            if any(member.link_count != len(members) for _, member in members):
                self._tell(
                    f"its group of hard links has {len(members)} members, not as many as it says",
                    path,
                )
            if any(_linked(member) != _linked(first) for _, member in members):
                self._tell("the names of its group of hard links are different files", path)
            if len({one.rpartition(b"/")[0] for one, _ in members}) > 1:
                self._tell("its group of hard links spreads over directories", path)

    def _check_nested(self) -> None:
        prefix = self._checked.catalog.path
        named = {nested.path for nested in self._checked.nested}
        for path in sorted(named - self._checked.mounts.keys()):
            self._tell("a nested catalog is named that nothing mounts", path)
        for path in sorted(self._checked.mounts.keys() - named):
            self._tell("a mountpoint without a nested catalog", path)
        bound = {bind.path for bind in self._checked.binds}
        for path in sorted(bound ^ self._bound):
            self._tell("a bind mountpoint that is named or flagged only", path)
        if any(not path.startswith(prefix + b"/") for path in named | bound):
            self._tell("a nested catalog lies outside of it", prefix)
        self._own["nested"] = len(named)

    def _check_counters(self) -> None:
        found = self._database.execute(rows.SELECT_STATISTICS).fetchall()
        stated = parse_statistics(found)
        self._checked.statistics = stated
        known = {bytes(key).decode("ascii", "replace") for key, _ in found}
        for name in NAMES:
            said = getattr(stated.own, name)
            # counters came one by one: an old catalog is not wrong because it lacks some
            if said != self._own[name] and f"self_{name}" in known:
                self._tell(
                    f"the counter self_{name} is {said}, not {self._own[name]}",
                    self._checked.catalog.path,
                )

    def _check_packs(self, properties: rows.Properties) -> None:
        packs, profiles = unpack_tables(self._database, properties)
        self._checked.records += [object_key(p.pack.digest, ObjectKind.PACK) for p in packs]
        self._checked.profiles = profiles
        for stretch in packs:
            for path in (stretch.first, stretch.last):
                key = rows.path_key(path)
                select = self._select + "md5path_1 = ? AND md5path_2 = ?"
                if not self._database.execute(select, key).fetchall():
                    self._tell("a pack begins or ends with a file that is not here", path)
        if profiles and self._checked.catalog.path:
            self._tell("profiles stand in a nested catalog", self._checked.catalog.path)

    def _nested(self, table: str, properties: rows.Properties) -> tuple[NestedCatalog, ...]:
        known = self._database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,))
        if known.fetchone() is None:
            return ()
        columns = rows.nested_columns(properties.schema_revision)
        found = self._database.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608
        return tuple(map(rows.parse_nested, found))

    def _tell(self, what: str, path: bytes) -> None:
        _tell(self._checked, what, path)


def _wrong(entry: Entry) -> str:
    """What an entry that can be read still has wrong; empty for nothing."""
    kind = entry.kind
    if kind is EntryKind.FILE:
        if entry.digest is None and not entry.is_chunked:
            return "a file without content: neither digest nor chunks"
        if entry.digest is not None and not any(entry.digest.raw):
            return "a file with a digest of zeros"
        return ""
    if entry.is_external or entry.is_chunked or entry.is_direct_io:
        return "flags of a file on what is none"
    if entry.digest is not None:
        return "a digest on what is no file"
    if kind is EntryKind.SYMLINK and entry.size != len(entry.symlink):
        return f"a symbolic link of size {entry.size}, though its target has {len(entry.symlink)} bytes"
    if kind is EntryKind.SPECIAL and entry.size and not entry.is_device:
        return "a pipe or socket with a size"
    return ""


def _linked(entry: Entry) -> tuple[object, ...]:
    """What all names of one file share."""
    return (
        entry.mode, entry.size, entry.mtime_total_ns, entry.uid, entry.gid, entry.flags,
        entry.digest, entry.symlink, entry.link_count, dict(entry.xattrs),
    )  # fmt: skip
