"""A directory's names in an order that survives a change of revision, so that they can be read in parts.

Names come in the order of their path's hash; the offset of a name is that hash. Whoever goes on after an offset misses
no name that stays, and sees none twice, whatever came or went meanwhile.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

from cernvm.fs.format.catalog import path_key
from cernvm.fs.format.entry import Entry
from cernvm.fs.reader import Catalog
from cernvm.fs.vfs.attributes import Attributes, ListedName
from cernvm.fs.vfs.inodes import inode_number

MAX_LISTED = 4096
_DOT, _DOT_DOT = 1, 2
_MASK = (1 << 62) - 1


AttributesOf = Callable[[int, Entry], Attributes]


def list_directory(
    catalog: Catalog,
    directory: tuple[bytes, Entry],
    parent: tuple[bytes, Entry],
    attributes_of: AttributesOf,
) -> list[ListedName]:
    """All names of a directory, `.` and `..` first, hidden entries left out.

    Shape: `directory` and `parent` are path and entry.
    """
    path = directory[0]
    names = [
        _listed_name(catalog, path + b"/" + entry.name, entry, attributes_of)
        for entry in catalog.children(path)
        if not entry.is_hidden
    ]
    names.sort()  # by offset, which comes first
    dots = [
        ListedName(offset, name, attributes_of(_inode_of(where, entry), entry), where, entry)
        for offset, name, (where, entry) in (
            (_DOT, b".", directory),
            (_DOT_DOT, b"..", parent),
        )
    ]
    return dots + names


def _listed_name(
    catalog: Catalog,
    path: bytes,
    entry: Entry,
    attributes_of: AttributesOf,
) -> ListedName:
    key = path_key(path)
    chunks = catalog.chunks(path) if entry.is_chunked else ()
    return ListedName(
        (key[0] & _MASK) + _DOT_DOT + 1,
        entry.name,
        attributes_of(inode_number(path, key, entry, chunks), entry),
        path,
        entry,
        chunks,
    )


def listed_after(names: Sequence[ListedName], offset: int) -> Sequence[ListedName]:
    """The next names after an offset, at most `MAX_LISTED`."""
    start = bisect.bisect_right(names, offset, key=lambda listed: listed.offset)
    return names[start : start + MAX_LISTED]


def _inode_of(path: bytes, entry: Entry) -> int:
    return inode_number(path, path_key(path), entry, ())
