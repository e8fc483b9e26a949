"""Drafts of repositories that the original wrote, and of catalogs as old as they come."""

import subprocess
from datetime import UTC, datetime

import pytest

from attack.fs_reader.forge import Forge
from cernvm.core.errors import CatalogFormatError
from cernvm.core.home import Home
from cernvm.fs.format.catalog import SCHEMA_REVISION
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.statistics import Counters, count_entries
from cernvm.fs.format.trust import open_manifest
from cernvm.fs.publish.draft import open_draft
from cernvm.fs.publish.repository import new_repository
from cernvm.fs.store.local import LocalStore
from cernvm.fs.store.memory import MemoryStore
from cernvm.fs.survey.reading import read_catalog
from system.fs_reader.test_old_schemas import catalog, folder
from system.samples import sample
from unit.fs_publish_draft.conftest import file_item

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SAMPLES = ["sample.cernvm.test", "shake.cernvm.test", "vectors.cernvm.test"]
# names of entries that the revision has before: path -> columns that differ from a plain file's
OLD = {b"": folder(), b"/file": {}, b"/folder": folder(), b"/nested": folder(3)}
BELOW = {b"/nested": folder(33), b"/nested/deep": {}}


@pytest.fixture
def repository(tmp_path):
    made = new_repository(Home(tmp_path / "home"), "t.cernvm.test")
    made.index.parent.mkdir(parents=True)
    return made


@pytest.mark.parametrize("name", SAMPLES)
def test_putting_what_the_original_wrote_changes_nothing(name, repository, tmp_path):
    store, manifest = unpack(name, tmp_path)

    with open_draft(repository, store, manifest, now=NOW) as draft:
        waiting = [draft.find(b"")]
        while waiting:
            item = waiting.pop()
            if not item.entry.hardlink_group:
                draft.put(item)
            assert not draft.is_changed, item.path
            if item.entry.is_directory:
                waiting += draft.listing(item.path, with_hidden=True)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_change_in_every_folder_keeps_all_else_that_the_original_wrote(
    name, repository, tmp_path
):
    store, manifest = unpack(name, tmp_path)
    before = items(store, manifest.root_catalog)  # which also shows that we count as it does
    folders = [path for path, (entry, _) in before.items() if entry.is_directory]

    with open_draft(repository, store, manifest, now=NOW) as draft:
        for path in folders:
            draft.put(file_item(path + b"/.new", b"new"))
        root = draft.finish().root.digest

    after = items(store, root)
    assert {path for path in after if path not in before} == {p + b"/.new" for p in folders}
    assert {path: after[path] for path in before} == before
    assert read_catalog(root, store).properties.revision == manifest.revision + 1


@pytest.mark.parametrize("schema", ["2.4", "2.5.0", "2.5.1", "2.5.2", "2.5.6", "2.5.7"])
def test_catalogs_of_any_schema_that_can_be_edited_become_the_newest(schema, repository):
    store, root = store_old(schema)

    with open_draft(repository, store, root, now=NOW) as draft:
        draft.put(file_item(b"/nested/new", b"new"))
        root = draft.finish().root.digest

    for digest in (root, read_catalog(root, store).nested[0].digest):
        read = read_catalog(digest, store)
        assert read.properties.schema_revision == SCHEMA_REVISION
        assert read.properties.schema == (2, 5)
    assert set(items(store, root)) == {*OLD, *BELOW, b"/nested/.cvmfscatalog", b"/nested/new"}


def test_catalogs_from_before_owners_are_refused(repository):
    store, root = store_old("1.0")

    with pytest.raises(CatalogFormatError), open_draft(repository, store, root, now=NOW):
        pass


def unpack(name, folder):
    """The store and manifest of a sample."""
    source = sample(name)
    if source is None:
        pytest.skip(f"{name}: name its folder in CVM_SAMPLE_REPOS")
    subprocess.run(["tar", "xzf", source / "tree.tar.gz", "-C", folder], check=True)
    place = next(folder.rglob(".cvmfspublished")).parent
    manifest = open_manifest((place / ".cvmfspublished").read_bytes(), name=name)
    return LocalStore(place), manifest


def store_old(schema):
    forge, store = Forge(), MemoryStore()
    below = BELOW | {b"/nested/.cvmfscatalog": {}}
    nested = forge.store(catalog(schema, below, prefix=b"/nested"), ObjectKind.CATALOG)
    root = forge.store(catalog(schema, OLD, nested=[(b"/nested", nested)]), ObjectKind.CATALOG)
    for path, data in forge.documents.items():
        store.put(path, data)
    return store, root


def items(store, root):
    """{path: (entry, chunks)} of a revision; its counters are checked."""
    found = {}
    _read(store, root, found)
    return found


def _read(store, digest, found):
    read = read_catalog(digest, store)
    for item in read.items:
        if not item.entry.is_nested_mountpoint:
            found[item.path] = (item.entry, item.chunks)
    total = Counters()
    for nested in read.nested:
        total += _read(store, nested.digest, found)
    counted = count_entries(
        [(item.entry, len(item.chunks)) for item in read.items], nested=len(read.nested)
    )
    assert (read.statistics.own, read.statistics.subtree) == (counted, total)
    return read.statistics.total
