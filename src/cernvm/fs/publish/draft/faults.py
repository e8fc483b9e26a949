"""What errors of SQLite and of the file system mean for a draft."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from cernvm.core.errors import CatalogFormatError, CvmError, HostError, SpaceError

_ADVICE = "free some space where the home folder is"


@contextmanager
def translated() -> Iterator[None]:
    """Raise what an error means in its place."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise meaning(error) from error


def meaning(error: sqlite3.Error | OSError) -> CvmError:
    """`SpaceError` for a full disk, `HostError` for a broken one, `CatalogFormatError` for a broken catalog."""
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return SpaceError(f"a draft's catalog: {error.strerror}", advice=_ADVICE)
        return HostError("a draft's catalog", error.strerror or str(error))
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return SpaceError("a draft's catalog: the disk is full", advice=_ADVICE)
    if code == sqlite3.SQLITE_IOERR:
        return HostError("a draft's catalog", str(error))
    return CatalogFormatError(f"it cannot be edited: {error}", where="catalog")
