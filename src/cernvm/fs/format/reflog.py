"""The reflog: every root object that was ever published, from which garbage collection starts.

Source: docs/formats/repository.md, "Reflog".
"""

from __future__ import annotations

from enum import IntEnum

from cernvm.fs.format.objects import ObjectKind

CREATE = """\
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE refs (hash TEXT, type INTEGER, timestamp INTEGER, CONSTRAINT pk_refs PRIMARY KEY (hash));
"""
INSERT_REFERENCE = "INSERT OR IGNORE INTO refs (hash, type, timestamp) VALUES (?, ?, ?)"
SELECT_REFERENCES = "SELECT hash, type, timestamp FROM refs"
INSERT_PROPERTY = "INSERT INTO properties (key, value) VALUES (?, ?)"


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


def format_properties(name: str) -> list[tuple[str, str]]:
    """The rows of the properties table."""
    return [("schema", "1.0"), ("schema_revision", "0"), ("fqrn", name)]
