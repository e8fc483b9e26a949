"""The repository that the original program wrote, unpacked once."""

import sqlite3
import tarfile
from pathlib import Path

import pytest

from cernvm.fs.format import catalog
from cernvm.fs.format.compress import inflate
from cernvm.fs.format.objects import ObjectKind, object_path

NAME = "vectors.cernvm.test"
VECTORS = Path(__file__).parents[2] / "vectors" / NAME


@pytest.fixture(scope="session")
def vectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    with tarfile.open(VECTORS / "tree.tar.gz") as archive:
        # our own test data; Debian 12's tarfile takes no `filter` argument
        archive.extraction_filter = lambda member, _path: member
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def master_key():
    return (VECTORS / "keys" / f"{NAME}.pub").read_bytes()


@pytest.fixture
def opened(vectors):
    """Open a catalog or history object of the vectors."""
    connections = []

    def open_(digest, kind=ObjectKind.CATALOG):
        database = sqlite3.connect(":memory:")
        connections.append(database)
        stored = (vectors / object_path(digest, kind)).read_bytes()
        database.deserialize(inflate(stored, limit_bytes=1 << 28))
        database.text_factory = bytes
        return database

    yield open_
    for database in connections:
        database.close()


def catalogs_below(digest, open_):
    """Every catalog from a root down: (properties, database)."""
    waiting = [digest]
    while waiting:
        database = open_(waiting.pop())
        properties = catalog.parse_properties(
            database.execute(catalog.SELECT_PROPERTIES).fetchall()
        )
        columns = catalog.nested_columns(properties.schema_revision)
        nested = database.execute(f"SELECT {columns} FROM nested_catalogs").fetchall()
        waiting += [catalog.parse_nested(row).digest for row in nested]
        yield properties, database
