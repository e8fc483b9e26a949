"""An upper folder read as what was done: paths that were written, and names that were removed.

Source: the kernel's Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cernvm.fs.format.entry import NO_XATTRS
from cernvm.fs.publish.source import Found, walk

_MARKS = b"user.overlay."
_OPAQUE = _MARKS + b"opaque"
_WHITEOUT = _MARKS + b"whiteout"
_HIDES_ALL = b"y"  # "x" only says that the folder holds removed names


@dataclass(frozen=True, slots=True)
class Seen:
    """One path of an upper folder.

    Shape: `path` is the repository's; `found` is None for a name that was removed; of a folder that `is_whole` nothing
    that was there before shows through.
    """

    path: bytes
    found: Found | None
    is_whole: bool = False


def read_upper(upper: Path, at: bytes) -> Iterator[Seen]:
    """All that an upper folder over the directory `at` says, a folder before what is in it.

    Errors: as `walk`.
    """
    whole: set[bytes] = set()
    for found in walk(upper):
        path = at + found.path
        if _is_removal(found):
            yield Seen(path, None)
            continue
        is_whole = found.is_directory and (
            found.xattrs.get(_OPAQUE) == _HIDES_ALL or path.rpartition(b"/")[0] in whole
        )
        if is_whole:
            whole.add(path)
        yield Seen(path, _unmarked(found), is_whole)


def _is_removal(found: Found) -> bool:
    if stat.S_ISCHR(found.status.st_mode):
        return found.status.st_rdev == 0
    return found.is_file and found.status.st_size == 0 and _WHITEOUT in found.xattrs


def _unmarked(found: Found) -> Found:
    """Without the kernel's marks, which are not part of what is published."""
    if not any(name.startswith(_MARKS) for name in found.xattrs):
        return found
    kept = {name: value for name, value in found.xattrs.items() if not name.startswith(_MARKS)}
    return replace(found, xattrs=kept or NO_XATTRS)
