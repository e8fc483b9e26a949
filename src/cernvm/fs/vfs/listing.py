"""A directory's names in an order that survives a change of revision, so that they can be read in parts.

Names come in the order of their path's hash; the offset of a name is that hash. Whoever goes on after an offset misses
no name that stays, and sees none twice, whatever came or went meanwhile.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from cernvm.core.errors import CatalogFormatError
from cernvm.fs.format.catalog import path_key
from cernvm.fs.format.entry import Entry
from cernvm.fs.reader import Catalog
from cernvm.fs.vfs.attributes import Attributes, ListedName
from cernvm.fs.vfs.inodes import inode_number

MAX_SHORT = 8192
MAX_LISTED = 4096
LONG_PAGE = 256
_DOT, _DOT_DOT = 1, 2
_MASK = (1 << 62) - 1
_PLACES_PER_NAME = 32  # what a name of a short listing takes, in places of a long one

AttributesOf = Callable[[int, Entry], Attributes]
Named = tuple[bytes, Entry]
"""Path and entry."""


class Listing(Protocol):
    """The names of one directory, `.` and `..` first, hidden entries left out."""

    def after(self, offset: int) -> Sequence[ListedName]:
        """The next names after an offset; not all that there are."""

    @property
    def at_hand(self) -> Sequence[ListedName]:
        """The names that need not be read again, without `.` and `..`."""

    @property
    def weight(self) -> int:
        """What keeping it costs. Units: names."""


def list_directory(
    catalog: Catalog, directory: Named, parent: Named, attributes_of: AttributesOf
) -> Listing:
    """All names of a directory. Errors: `CatalogFormatError`, of a long one also later."""
    dots = [
        ListedName(offset, name, attributes_of(_inode_of(where, entry), entry), where, entry)
        for offset, name, (where, entry) in ((_DOT, b".", directory), (_DOT_DOT, b"..", parent))
    ]
    if catalog.has_more_children_than(MAX_SHORT, directory[0]):
        return LongListing(catalog, directory[0], dots, attributes_of)
    return ShortListing(catalog, directory[0], dots, attributes_of)


class ShortListing:
    """A listing in memory."""

    def __init__(
        self, catalog: Catalog, path: bytes, dots: list[ListedName], attributes_of: AttributesOf
    ) -> None:
        named = [
            _listed_name(catalog, path, entry, attributes_of)
            for entry in catalog.children(path)
            if not entry.is_hidden
        ]
        self._names = dots + sorted(named)  # by offset, which comes first

    def after(self, offset: int) -> Sequence[ListedName]:
        start = bisect.bisect_right(self._names, offset, key=lambda listed: listed.offset)
        return self._names[start : start + MAX_LISTED]

    @property
    def at_hand(self) -> Sequence[ListedName]:
        return self._names[2:]

    @property
    def weight(self) -> int:
        return len(self._names)


class LongListing:
    """A listing of which only the order is in memory, 16 bytes a name; the rest is read as it is asked for."""

    def __init__(
        self, catalog: Catalog, path: bytes, dots: list[ListedName], attributes_of: AttributesOf
    ) -> None:
        self._catalog = catalog
        self._path = path
        self._dots = dots
        self._attributes_of = attributes_of
        offsets, rows = array("q"), array("q")
        for key, row in catalog.child_places(path):
            offsets.append(_offset(key))
            rows.append(row)
        order = sorted(range(len(rows)), key=offsets.__getitem__)
        self._offsets = array("q", (offsets[place] for place in order))
        self._rows = array("q", (rows[place] for place in order))
        if any(map(int.__eq__, self._offsets, self._offsets[1:])):
            raise CatalogFormatError("lists a name twice", where=repr(path[-80:]))

    def after(self, offset: int) -> Sequence[ListedName]:
        page = [dot for dot in self._dots if dot.offset > offset]
        start = bisect.bisect_right(self._offsets, offset)
        while not page and start < len(self._rows):
            for row in self._rows[start : start + LONG_PAGE]:
                entry = self._catalog.child_at(row, self._path)
                if not entry.is_hidden:
                    page.append(_listed_name(self._catalog, self._path, entry, self._attributes_of))
            start += LONG_PAGE
        return page

    @property
    def at_hand(self) -> Sequence[ListedName]:
        return ()

    @property
    def weight(self) -> int:
        return len(self._rows) // _PLACES_PER_NAME


def _listed_name(
    catalog: Catalog, folder: bytes, entry: Entry, attributes_of: AttributesOf
) -> ListedName:
    path = folder + b"/" + entry.name
    key = path_key(path)
    chunks = catalog.chunks(path) if entry.is_chunked else ()
    attributes = attributes_of(inode_number(path, key, entry, chunks), entry)
    return ListedName(_offset(key[0]), entry.name, attributes, path, entry, chunks)


def _offset(key: int) -> int:
    return (key & _MASK) + _DOT_DOT + 1


def _inode_of(path: bytes, entry: Entry) -> int:
    return inode_number(path, path_key(path), entry, ())
