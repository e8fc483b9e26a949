"""A directory's names in an order that survives a change of revision, so that they can be read in parts.

Names come in the order of their path's hash; the offset of a name is that hash. Whoever goes on after an offset misses
no name that stays, and sees none twice, whatever came or went meanwhile.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

from cernvm.fs.format.catalog import path_key
from cernvm.fs.format.entry import Chunk, Entry
from cernvm.fs.reader import Catalog
from cernvm.fs.vfs.attributes import Attributes, ListedName

MAX_LISTED = 4096
_DOT, _DOT_DOT = 1, 2
_MASK = (1 << 62) - 1


def list_directory(
    catalog: Catalog,
    directory: tuple[bytes, Entry],
    parent: tuple[bytes, Entry],
    attributes_of: Callable[[bytes, Entry, Sequence[Chunk]], Attributes],
) -> list[ListedName]:
    """All names of a directory, `.` and `..` first, hidden entries left out.

    Shape: `directory` and `parent` are path and entry.
    """
    path = directory[0]
    names = []
    for entry in catalog.children(path):
        if entry.is_hidden:
            continue
        child = path + b"/" + entry.name
        chunks = catalog.chunks(child) if entry.is_chunked else ()
        offset = (path_key(child)[0] & _MASK) + _DOT_DOT + 1
        attributes = attributes_of(child, entry, chunks)
        names.append(ListedName(entry.name, offset, attributes, child, entry, chunks))
    names.sort(key=lambda listed: (listed.offset, listed.name))
    dots = [
        ListedName(name, offset, attributes_of(where, entry, ()), where, entry)
        for name, offset, (where, entry) in (
            (b".", _DOT, directory),
            (b"..", _DOT_DOT, parent),
        )
    ]
    return dots + names


def listed_after(names: Sequence[ListedName], offset: int) -> Sequence[ListedName]:
    """The next names after an offset, at most `MAX_LISTED`."""
    start = bisect.bisect_right(names, offset, key=lambda listed: listed.offset)
    return names[start : start + MAX_LISTED]
