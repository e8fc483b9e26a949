"""Root catalog and certificate beside `data/`, for servers that keep `data/` to themselves."""

import pytest

from attack.fs_reader.forge import CatalogMaker, Client, Forge
from cernvm.core.errors import CvmError


def repository(*, alternative_paths=True):
    forge = Forge()
    maker = CatalogMaker(entries={b"/file": forge.file(b"file", b"content")})
    return forge.publish(maker, alternative_paths=alternative_paths)


def moved(forge, change=lambda data: data):
    """The documents, with root catalog and certificate under their other names only."""
    beside = forge.beside()
    return {beside.get(path, path): change(data) if path in beside else data
            for path, data in forge.documents.items()}  # fmt: skip


def test_they_are_found_where_data_is_denied():
    client = Client(moved(repository()))

    assert client.read(client.mount(), b"/file") == b"content"


def test_without_them_they_are_found_below_data():
    client = Client(repository().documents)

    assert client.read(client.mount(), b"/file") == b"content"


def test_they_are_not_looked_for_unless_the_manifest_says_so():
    with pytest.raises(CvmError):
        Client(moved(repository(alternative_paths=False))).mount()


def test_a_forged_one_is_refused_and_the_right_one_below_data_read():
    forge = repository()
    forged = moved(forge, lambda data: data[:-1] + bytes([data[-1] ^ 1]))

    with pytest.raises(CvmError):
        Client(forged).mount()
    client = Client({**forge.documents, **forged})
    assert client.read(client.mount(), b"/file") == b"content"
