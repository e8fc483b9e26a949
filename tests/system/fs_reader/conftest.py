"""Forged repositories behind the in-memory exchange, with a cache on disk where a test asks for one."""

import pytest

from attack.fs_reader.forge import CatalogMaker, Client, Forge, directory


def revision(number, files, *, folders=(), ttl_s=60):
    """The documents of a revision that holds `files` (path -> content)."""
    forge = Forge()
    entries = {path: directory(path.rpartition(b"/")[2]) for path in folders}
    entries |= {path: forge.file(path.rpartition(b"/")[2], data) for path, data in files.items()}
    return forge.publish(CatalogMaker(entries=entries, ttl_s=ttl_s), revision=number).documents


@pytest.fixture
def client():
    """Makes clients of documents."""
    return Client
