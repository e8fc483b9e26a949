"""The store of who has only the repository's URL: it reads and believes digests, and does nothing else."""

from pathlib import Path

import pytest

from cernvm.core.errors import DeniedError, DigestMismatchError, NotFoundError
from cernvm.fs.format.objects import MANIFEST_PATH, ObjectKind, object_path
from cernvm.fs.store.opening import open_store


@pytest.fixture
def web(site):
    return open_store(site.public)


def test_it_reads_what_is_served(site, web):
    path = object_path(site.manifest.root_catalog, ObjectKind.CATALOG)

    assert web.get(MANIFEST_PATH) == site.store.get(MANIFEST_PATH)
    assert web.get(path) == site.store.get(path)
    assert web.has(path)


def test_what_is_not_there_is_not_found(web):
    path = f"data/00/{'0' * 38}"

    assert not web.has(path)
    with pytest.raises(NotFoundError):
        web.get(path)


def test_a_damaged_object_is_refused(site, web):
    path = object_path(site.manifest.root_catalog, ObjectKind.CATALOG)
    (Path(site.repository.storage) / path).write_bytes(b"damaged")

    with pytest.raises(DigestMismatchError):
        web.get(path)


def test_it_neither_writes_nor_lists(web):
    for refused in (
        lambda: web.put(f"data/00/{'0' * 38}", b""),
        lambda: web.replace(MANIFEST_PATH, b""),
        lambda: web.delete(MANIFEST_PATH),
        lambda: web.status(MANIFEST_PATH),
        web.paths,
        web.listing,
        web.exclusive,
    ):
        with pytest.raises(DeniedError):
            refused()
