"""A repository's tags, from the history object that its manifest names."""

from __future__ import annotations

import sqlite3
import time

from cernvm.core.errors import CatalogFormatError, FormatError
from cernvm.fs.cache import Content
from cernvm.fs.format.history import SELECT_TAGS, SELECT_TAGS_OF_BRANCHES, Tag, parse_tag
from cernvm.fs.reader.database import open_database

MAX_HISTORY_BYTES = 256 << 20
MAX_TAGS = 1_000_000
_MAX_QUERY_S = 10.0
_STEPS_BETWEEN_CHECKS = 200_000


def read_tags(content: Content, *, where: str) -> tuple[Tag, ...]:
    """All tags in no order. Errors: `CatalogFormatError`; `where` names the object."""
    connection = open_database(content)
    end = time.monotonic() + _MAX_QUERY_S
    connection.text_factory = bytes
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_BETWEEN_CHECKS)
    try:
        _check_table(connection)
        columns = {bytes(row[1]) for row in connection.execute("PRAGMA table_info(tags)")}
        select = SELECT_TAGS_OF_BRANCHES if b"branch" in columns else SELECT_TAGS
        rows = connection.execute(f"{select} LIMIT {MAX_TAGS + 1}").fetchall()
        if len(rows) > MAX_TAGS:
            raise CatalogFormatError("it holds too many tags")
        return tuple(map(parse_tag, rows))
    except FormatError as error:
        raise CatalogFormatError(error.reason, where=where) from None
    except (sqlite3.Error, OverflowError, UnicodeError) as error:
        raise CatalogFormatError(f"it cannot be read: {error}", where=where) from error
    finally:
        connection.close()


def _check_table(connection: sqlite3.Connection) -> None:
    """A view or trigger could run anything."""
    for kind, _, page in connection.execute("SELECT type, name, rootpage FROM sqlite_master"):
        if kind not in (b"table", b"index") or not page:
            raise CatalogFormatError("it holds more than tables and indices")
