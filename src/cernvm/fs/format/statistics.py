"""The counters that a catalog keeps of itself and of the nested catalogs below it.

A catalog's total is its own counters plus those of its subtree; `subtree_` never includes `self_`.
Source: docs/formats/repository.md, "Statistics".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from cernvm.core.errors import CatalogFormatError
from cernvm.fs.format.entry import Entry, EntryKind


@dataclass(frozen=True, slots=True)
class Counters:
    """How many things of each kind there are; field names are the format's counter names.

    Units: `file_size`, `chunked_size`, `external_file_size` are bytes of content.
    """

    regular: int = 0
    symlink: int = 0
    special: int = 0
    dir: int = 0
    nested: int = 0
    chunked: int = 0
    chunks: int = 0
    file_size: int = 0
    chunked_size: int = 0
    xattr: int = 0
    external: int = 0
    external_file_size: int = 0

    @property
    def entries(self) -> int:
        """All paths: a nested catalog's mountpoint, which is counted in both catalogs, once."""
        return self.regular + self.symlink + self.special + self.dir - self.nested

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, n) + getattr(other, n) for n in NAMES))

    def __sub__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, n) - getattr(other, n) for n in NAMES))


NAMES = tuple(field.name for field in fields(Counters))


@dataclass(frozen=True, slots=True)
class Statistics:
    """A catalog's own counters and the sum of those of all catalogs below it."""

    own: Counters = Counters()
    subtree: Counters = Counters()

    @property
    def total(self) -> Counters:
        """The catalog and all below it."""
        return self.own + self.subtree


def count_entries(entries: Iterable[tuple[Entry, int]], *, nested: int) -> Counters:
    """A catalog's own counters, from its rows and their numbers of chunks, and its number of nested catalogs."""
    counts = dict.fromkeys(NAMES, 0)
    counts["nested"] = nested
    for entry, chunks in entries:
        counts["xattr"] += bool(entry.xattrs)
        if entry.kind is EntryKind.DIRECTORY:
            counts["dir"] += 1
        elif entry.kind is EntryKind.SYMLINK:
            counts["symlink"] += 1
        elif entry.kind is EntryKind.SPECIAL:
            counts["special"] += 1
        else:
            counts["regular"] += 1
            counts["file_size"] += entry.size
            if entry.is_chunked:
                counts["chunked"] += 1
                counts["chunks"] += chunks
                counts["chunked_size"] += entry.size
            if entry.is_external:
                counts["external"] += 1
                counts["external_file_size"] += entry.size
    return Counters(**counts)


def format_statistics(statistics: Statistics) -> list[tuple[str, int]]:
    """The rows of the statistics table."""
    return [
        (f"{prefix}_{name}", getattr(counters, name))
        for prefix, counters in (("self", statistics.own), ("subtree", statistics.subtree))
        for name in NAMES
    ]


def parse_statistics(rows: Iterable[Sequence[Any]]) -> Statistics:
    """The counters that the table's rows hold; those of later versions are ignored, missing ones are 0."""
    parts: dict[str, dict[str, int]] = {"self": {}, "subtree": {}}
    for key, value in rows:
        name = key.decode("ascii", "replace") if isinstance(key, bytes) else str(key)
        prefix, _, counter = name.partition("_")
        if type(value) is not int:
            raise CatalogFormatError(f"counter {name[:40]!r} is no number", where="statistics")
        if prefix in parts and counter in NAMES:
            parts[prefix][counter] = value
    return Statistics(Counters(**parts["self"]), Counters(**parts["subtree"]))
