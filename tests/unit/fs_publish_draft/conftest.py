"""Empty revisions to draft from, items to put, and a reader that checks every rule that catalogs must keep."""

import stat
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cernvm.core.digest import Algorithm
from cernvm.core.home import Home
from cernvm.fs.format.catalog import SCHEMA_REVISION, Properties
from cernvm.fs.format.entry import Chunk, Entry, EntryFlag
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.statistics import Counters, Statistics, count_entries
from cernvm.fs.publish.draft import open_draft
from cernvm.fs.publish.repository import new_repository
from cernvm.fs.publish.revision import write_object
from cernvm.fs.store.memory import MemoryStore
from cernvm.fs.survey.database import Catalog, Item, pack_catalog
from cernvm.fs.survey.reading import read_catalog, read_object

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Press:
    """A repository without signatures: a store, and the root catalog that comes next."""

    def __init__(self, folder, algorithm=Algorithm.SHA1):
        self.repository = new_repository(Home(folder), "t.cernvm.test", algorithm=algorithm)
        self.repository.index.parent.mkdir(parents=True, exist_ok=True)
        self.store = MemoryStore()
        root = folder_item(b"").entry
        empty = Catalog(
            Properties(SCHEMA_REVISION, 0, 0, ttl_s=240),
            (Item(b"", root),),
            (),
            Statistics(count_entries([(root, 0)], nested=0)),
        )
        data = pack_catalog(empty, algorithm=algorithm)
        self.root = write_object(self.repository, self.store, data, ObjectKind.CATALOG).digest

    def draft(self, base=None):
        return open_draft(self.repository, self.store, base or self.root, now=NOW)

    def publish(self, change, limits=None):
        """Make a revision; returns what `finish` returned, or None where nothing changed."""
        with self.draft() as draft:
            change(draft)
            if not draft.is_changed:
                return None
            finished = draft.finish(limits)
        self.root = finished.root.digest
        return finished

    def read(self):
        return read_revision(self.store, self.root)


@pytest.fixture
def press(tmp_path):
    return Press(tmp_path)


def folder_item(path, *, mode=0o755, mtime_s=1):
    name = path.rpartition(b"/")[2]
    flags = EntryFlag.DIRECTORY
    return Item(path, Entry(name, stat.S_IFDIR | mode, 4096, mtime_s, 0, 0, flags, 0, link_count=2))


def file_item(path, content=b"", *, chunks=0):
    name = path.rpartition(b"/")[2]
    if not chunks:
        digest = Algorithm.SHA1.digest(content)
        entry = Entry(name, stat.S_IFREG | 0o644, len(content), 2, 0, 0, EntryFlag.FILE, 0, digest)
        return Item(path, entry)
    pieces = tuple(Chunk(n, 1, Algorithm.SHA1.digest(content + b"%d" % n)) for n in range(chunks))
    flags = EntryFlag.FILE | EntryFlag.CHUNKED
    return Item(path, Entry(name, stat.S_IFREG | 0o644, chunks, 2, 0, 0, flags, 0), pieces)


def link_item(path, target=b"to"):
    name = path.rpartition(b"/")[2]
    flags = EntryFlag.FILE | EntryFlag.SYMLINK
    return Item(
        path, Entry(name, stat.S_IFLNK | 0o777, len(target), 3, 0, 0, flags, 0, symlink=target)
    )


def read_revision(store, root):
    """Every item by its path, and every catalog's digest by its; all rules of the format are checked."""
    items, catalogs = {}, {}
    _read(store, root, b"", items, catalogs)
    subfolders = Counter(
        path.rpartition(b"/")[0] for path, item in items.items() if path and item.entry.is_directory
    )
    for path, item in items.items():
        if item.entry.is_directory:
            assert item.entry.link_count == 2 + subfolders[path], path
    return items, catalogs


def _read(store, digest, prefix, items, catalogs):
    catalogs[prefix] = digest
    read = read_catalog(digest, store)
    assert read.properties.root_prefix == prefix
    assert read.properties.schema_revision == SCHEMA_REVISION
    mountpoints = {}
    groups = Counter(
        (item.path.rpartition(b"/")[0], item.entry.hardlink_group)
        for item in read.items
        if item.entry.hardlink_group
    )
    assert len({group for _, group in groups}) == len(groups)
    for item in read.items:
        entry = item.entry
        if entry.is_nested_mountpoint:
            mountpoints[item.path] = entry
            continue
        assert entry.is_nested_root == (item.path == prefix != b"")
        if not entry.is_directory:
            expected = groups.get((item.path.rpartition(b"/")[0], entry.hardlink_group), 1)
            assert entry.link_count == expected, item.path
        assert item.path not in items
        items[item.path] = Item(item.path, _plain(entry), item.chunks)
    assert set(mountpoints) == {nested.path for nested in read.nested}
    total = Counters()
    for nested in read.nested:
        size, below = _read(store, nested.digest, nested.path, items, catalogs)
        assert size == nested.size_bytes
        total += below
        assert _plain(mountpoints[nested.path]) == items[nested.path].entry
        marker = items[nested.path + b"/.cvmfscatalog"].entry
        assert stat.S_ISREG(marker.mode)
    counted = count_entries(
        ((item.entry, len(item.chunks)) for item in read.items), nested=len(read.nested)
    )
    assert read.statistics == Statistics(counted, total)
    return _size(store, digest), read.statistics.total


def _plain(entry):
    nested = EntryFlag.NESTED_MOUNTPOINT | EntryFlag.NESTED_ROOT
    return replace(entry, flags=entry.flags & ~nested)


def _size(store, digest):
    return len(read_object(store, digest, ObjectKind.CATALOG))
