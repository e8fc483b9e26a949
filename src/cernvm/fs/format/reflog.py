"""The reflog: every root object that was ever published, from which garbage collection starts.

Source: docs/formats/repository.md, "Reflog".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import CatalogFormatError, FormatError
from cernvm.fs.format.objects import ObjectKind

CREATE = """\
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE refs (hash TEXT, type INTEGER, timestamp INTEGER, CONSTRAINT pk_refs PRIMARY KEY (hash));
"""
INSERT_REFERENCE = "INSERT OR IGNORE INTO refs (hash, type, timestamp) VALUES (?, ?, ?)"
DELETE_REFERENCE = "DELETE FROM refs WHERE hash = ?"
SELECT_REFERENCES = "SELECT hash, type, timestamp FROM refs"
INSERT_PROPERTY = "INSERT INTO properties (key, value) VALUES (?, ?)"
_MAX_TIME_S = 253_402_300_799


class ReferenceKind(IntEnum):
    """The format's numbers for kinds of root objects."""

    ROOT_CATALOG = 0
    CERTIFICATE = 1
    HISTORY = 2
    METAINFO = 3

    @property
    def object_kind(self) -> ObjectKind:
        """The letter under which objects of this kind lie in the store."""
        return _OBJECT_KINDS[self]


_OBJECT_KINDS = {
    ReferenceKind.ROOT_CATALOG: ObjectKind.CATALOG,
    ReferenceKind.CERTIFICATE: ObjectKind.CERTIFICATE,
    ReferenceKind.HISTORY: ObjectKind.HISTORY,
    ReferenceKind.METAINFO: ObjectKind.METAINFO,
}


@dataclass(frozen=True, slots=True)
class Reference:
    """A root object, and when it was listed: when it was published, or replicated."""

    digest: Digest
    kind: ReferenceKind
    listed_at: datetime


def parse_reference(row: Sequence[Any]) -> Reference:
    """The reference that a row of `SELECT_REFERENCES` holds; `CatalogFormatError` where it makes no sense."""
    text, kind, seconds = row
    if type(kind) is not int or type(seconds) is not int or not 0 <= seconds <= _MAX_TIME_S:
        raise CatalogFormatError("a reference has numbers out of range", where="reflog")
    try:
        named = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
        moment = datetime.fromtimestamp(seconds, UTC)
        return Reference(parse_digest(named), ReferenceKind(kind), moment)
    except FormatError as error:
        raise CatalogFormatError(error.reason, where="reflog") from None
    except ValueError:
        raise CatalogFormatError(f"no kind has the number {kind}", where="reflog") from None


def format_properties(name: str) -> list[tuple[str, str]]:
    """The rows of the properties table."""
    return [("schema", "1.0"), ("schema_revision", "0"), ("fqrn", name)]
