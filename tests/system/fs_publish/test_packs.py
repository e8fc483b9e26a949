"""What is published together is what is published one by one, and is published once."""

import random
from pathlib import Path

import pytest

from cernvm.core.digest import Algorithm
from cernvm.fs.format import pack_table
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.pack import PackReader
from cernvm.fs.format.pack_table import SMALL_BYTES, PackTable, is_packed
from cernvm.fs.publish.content import Progress
from cernvm.fs.publish.creating import create_repository
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.repository import new_repository
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.store.local import LocalStore
from cernvm.fs.survey.reading import read_catalog

from .conftest import check_equal, read_back

THOROUGH = Options(is_thorough=True)


@pytest.fixture
def release(tmp_path):
    """Some 9 MB in 600 files of several directories and two catalogs; a few are too large for a pack."""
    noise = random.Random(5)
    root = tmp_path / "release"
    for number in range(600):
        folder = root / f"lib{number % 3}/part{number % 40}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(noise.randbytes(noise.randrange(30_000)))
    (root / "lib2/.cvmfscatalog").touch()
    (root / "lib1/large").write_bytes(noise.randbytes(SMALL_BYTES + 1))
    (root / "lib1/largest-small").write_bytes(noise.randbytes(SMALL_BYTES))
    (root / "lib0/part0/again").write_bytes((root / "lib1/large").read_bytes()[:100])
    (root / "lib1/part1/again").write_bytes((root / "lib1/large").read_bytes()[:100])
    return root


def catalogs_of(store, digest):
    catalog = read_catalog(digest, store)
    yield catalog
    for nested in catalog.nested:
        yield from catalogs_of(store, nested.digest)


def catalogs(repository, store):
    return list(catalogs_of(store, read_manifest(repository, store).root_catalog))


def packs_stored(store):
    return {path for path in store.paths("data/") if path.endswith(ObjectKind.PACK.value)}


def unpacked(store, stretch):
    """The objects of a pack, each once, as its own object in the store says it is."""
    data = store.get(object_path(stretch.pack.digest, ObjectKind.PACK))
    assert stretch.pack.digest.algorithm.digest(data) == stretch.pack.digest
    reader = PackReader(stretch.pack)
    found = reader.feed(data)
    reader.finish()
    for packed, stored in found:
        assert store.get(object_path(packed.digest, packed.kind)) == stored
    assert len({packed.digest for packed, _ in found}) == len(found)
    return {packed.digest for packed, _ in found}


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("compression", Compression)
def test_every_small_file_lies_in_the_pack_of_its_place(home, release, algorithm, compression):
    repository = new_repository(home, "t.cernvm.test", algorithm=algorithm, compression=compression)
    create_repository(home, repository)
    store = LocalStore(Path(repository.storage))
    publish_tree(repository, store, release)

    small = 0
    for catalog in catalogs(repository, store):
        table = PackTable(catalog.packs)
        content = {stretch.pack: unpacked(store, stretch) for stretch in catalog.packs}
        for item in catalog.items:
            if is_packed(item.entry):
                small += 1
                assert item.entry.digest in content[table.of_file(item.path)]
                assert table.of_file(item.path) in table.of_directory(item.path.rpartition(b"/")[0])
    assert small == 600 + 1 + 1 + 2


def test_the_same_tree_gives_the_same_packs_without_any_memory(repository, store, release):
    progress = Progress()
    publish_tree(repository, store, release, progress=progress)
    packs = [catalog.packs for catalog in catalogs(repository, store)]
    before = packs_stored(store)
    assert len(before) == progress.packs > 5

    publish_tree(repository, store, release, options=THOROUGH)
    assert [catalog.packs for catalog in catalogs(repository, store)] == packs

    repository.index.unlink()
    published = publish_tree(repository, store, release, options=THOROUGH)
    assert [catalog.packs for catalog in catalogs(repository, store)] == packs
    assert packs_stored(store) == before
    assert published.stored_objects == published.catalogs == 2


def test_a_change_stores_the_packs_around_it_only(repository, store, release):
    publish_tree(repository, store, release)
    before = packs_stored(store)
    (release / "lib0/part6/f6").write_bytes(b"changed")
    publish_tree(repository, store, release)

    assert 1 <= len(packs_stored(store) - before) <= 3
    found, _ = read_back(repository, store)
    check_equal(release, found)


def test_a_graft_packs_what_is_around_it_too(repository, store, release, tree):
    publish_tree(repository, store, release)
    publish_tree(repository, store, tree, options=Options(at="/lib1/new"))

    for catalog in catalogs(repository, store):
        table = PackTable(catalog.packs)
        for item in catalog.items:
            if is_packed(item.entry):
                assert table.of_file(item.path) is not None


def test_a_lost_pack_is_stored_again_and_a_lost_object_left_out(repository, store, release):
    publish_tree(repository, store, release)
    before = packs_stored(store)
    for path in before:
        (Path(repository.storage) / path).unlink()
    publish_tree(repository, store, release, options=THOROUGH)
    assert packs_stored(store) == before

    items = {item.path: item for item in catalogs(repository, store)[0].items}
    lost = items[b"/lib0/part6/f6"].entry.digest
    (Path(repository.storage) / object_path(lost, ObjectKind.PLAIN)).write_bytes(b"damaged")
    for path in before:
        (Path(repository.storage) / path).unlink()
    publish_tree(repository, store, release, options=THOROUGH)
    packs = [stretch for catalog in catalogs(repository, store) for stretch in catalog.packs]
    assert lost not in set().union(*(unpacked(store, stretch) for stretch in packs))


def test_a_repository_without_packs_has_none(cvm, home, release):
    cvm("repo", "create", "t.cernvm.test")
    cvm("repo", "publish", "t.cernvm.test", release, "--no-packs")
    store = LocalStore(home.storage / "t.cernvm.test")
    assert packs_stored(store) == set()
    cvm("repo", "publish", "t.cernvm.test", release)
    assert packs_stored(store) == set()
    cvm("repo", "publish", "t.cernvm.test", release, "--packs", "--thorough")
    assert len(packs_stored(store)) > 5


def test_no_more_packs_are_named_than_readers_take(repository, store, release, monkeypatch):
    monkeypatch.setattr(pack_table, "MAX_PACKS", 3)
    publish_tree(repository, store, release)

    assert max(len(catalog.packs) for catalog in catalogs(repository, store)) == 3
    publish_tree(repository, store, release / "lib0/part0", options=Options(at="/lib0/part0"))
