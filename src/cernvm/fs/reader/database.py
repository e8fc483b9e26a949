"""A database that came as an object: opened so that nothing in it can change or run anything."""

from __future__ import annotations

import sqlite3

from cernvm.core.errors import CatalogFormatError, HostError
from cernvm.fs.cache import Content


def open_database(content: Content) -> sqlite3.Connection:
    """A read-only connection; nothing may change the file, so nothing needs to be locked."""
    if content.size_bytes == 0:
        raise CatalogFormatError("it is empty", where="catalog")
    try:
        if content.path is None:
            connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
            connection.deserialize(content.pread(0, content.size_bytes))
        else:
            connection = sqlite3.connect(
                f"{content.path.absolute().as_uri()}?mode=ro&immutable=1",
                uri=True,
                check_same_thread=False,
                isolation_level=None,
            )
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
    except sqlite3.Error as error:
        raise HostError(
            str(content.path or "a catalog"), f"it cannot be opened: {error}"
        ) from error
    return connection
