"""Revisions in a store, made row by row, so that a test may also make wrong ones."""

import stat
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.home import Home
from cernvm.fs.format.catalog import SCHEMA_REVISION, Properties
from cernvm.fs.format.compress import deflate
from cernvm.fs.format.entry import Chunk, Entry, EntryFlag, NestedCatalog
from cernvm.fs.format.history import Tag, with_revision
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import REFLOG_PATH, ObjectKind, object_path
from cernvm.fs.format.reflog import ReferenceKind
from cernvm.fs.format.statistics import Counters, Statistics, count_entries
from cernvm.fs.publish.keys import Keys, create_keys
from cernvm.fs.publish.repository import new_repository
from cernvm.fs.publish.revision import write_revision
from cernvm.fs.store.memory import MemoryStore
from cernvm.fs.survey.database import Catalog, Item, extend_reflog, pack_catalog, pack_history

START = datetime(2026, 6, 1, tzinfo=UTC)
CHUNK_BYTES = 10  # content of so many bytes and more is stored in chunks


@dataclass
class Maker:
    """Puts trees, which are {path: content, or None for a directory}, into a store as signed revisions."""

    store: object
    repository: object = None
    algorithm: Algorithm = Algorithm.SHA1
    tags: tuple = ()
    manifest: Manifest | None = None
    now: datetime = START
    trees: dict[Digest, dict] = field(default_factory=dict)

    def put(self, content, kind=ObjectKind.PLAIN):
        stored = deflate(content)
        digest = self.algorithm.digest(stored)
        self.store.put(object_path(digest, kind), stored)
        return digest

    def item(self, path, content, tree, nested):
        common = {"name": path.rpartition(b"/")[2], "mtime_s": 7, "mtime_ns": 5, "uid": 1, "gid": 2}
        if content is None:
            subdirs = sum(c is None and p.rpartition(b"/")[0] == path for p, c in tree.items() if p)
            return Item(
                path,
                Entry(mode=stat.S_IFDIR | 0o755, size=4096, flags=EntryFlag.DIRECTORY,
                      link_count=2 + subdirs, **common),
            )  # fmt: skip
        common |= {"mode": stat.S_IFREG | 0o644, "size": len(content)}
        if len(content) < CHUNK_BYTES:
            return Item(path, Entry(flags=EntryFlag.FILE, digest=self.put(content), **common))
        chunks = tuple(
            Chunk(at, len(piece), self.put(piece, ObjectKind.PARTIAL))
            for at in range(0, len(content), CHUNK_BYTES)
            if (piece := content[at : at + CHUNK_BYTES])
        )
        flags = EntryFlag.FILE | EntryFlag.CHUNKED
        return Item(path, Entry(flags=flags, **common), chunks)

    def root(self, tree, nested=(), *, revision=1, previous=None, change=lambda catalog: catalog):
        """The digest of the root catalog, and its size; `change` may spoil each catalog."""
        tree = {b"": None, **tree}
        for path in list(tree):
            for end in [at for at, byte in enumerate(path) if byte == ord("/")]:
                tree.setdefault(path[:end], None)
        mounts = sorted((p for p in nested if tree.get(p, b"") is None), key=len, reverse=True)
        rows, below = defaultdict(list), defaultdict(list)
        for path, content in tree.items():
            item = self.item(path, content, tree, nested)
            place = holder(path.rpartition(b"/")[0] if path else b"", mounts)
            if path in mounts:
                flags = item.entry.flags | EntryFlag.NESTED_ROOT
                rows[path].append(Item(path, replace(item.entry, flags=flags)))
                flags = item.entry.flags | EntryFlag.NESTED_MOUNTPOINT
                item = Item(path, replace(item.entry, flags=flags))
            rows[place].append(item)
        for prefix in [*mounts, b""]:
            own = count_entries(
                ((i.entry, len(i.chunks)) for i in rows[prefix]), nested=len(below[prefix])
            )
            subtree = sum((total for _, total in below[prefix]), Counters())
            catalog = Catalog(
                Properties(SCHEMA_REVISION, revision, 7, previous if not prefix else None, prefix,
                           None if prefix else 240),
                tuple(rows[prefix]), tuple(n for n, _ in below[prefix]), Statistics(own, subtree),
            )  # fmt: skip
            packed = pack_catalog(change(catalog), algorithm=self.algorithm)
            digest = self.put(packed, ObjectKind.CATALOG)
            if prefix:
                one = (NestedCatalog(prefix, digest, len(packed)), Statistics(own, subtree).total)
                below[
                    holder(prefix.rpartition(b"/")[0], [m for m in mounts if m != prefix])
                ].append(one)
        self.trees[digest] = tree
        return digest, len(packed)

    def publish(self, tree, nested=(), *, tag="", change=lambda catalog: catalog, sign=True):
        """A signed revision, an hour after the last one; signing takes its time, so do it for the last one at least."""
        self.now += timedelta(hours=1)
        previous = self.manifest
        number = 0 if previous is None else previous.revision + 1
        before = None if previous is None else previous.root_catalog
        root, size = self.root(tree, nested, revision=number, previous=before, change=change)
        manifest = Manifest(
            root, size, 240, number, self.repository.name, published_at=self.now,
            garbage_collectable=True,
        )  # fmt: skip
        new = Tag("", root, number, self.now, "", size)
        self.tags = with_revision(self.tags, new, named=(tag,) if tag else ())
        if sign:
            self.manifest, _ = write_revision(
                self.repository,
                self.store,
                manifest,
                tags=self.tags,
                previous=previous,
                now=self.now,
            )
            return self.manifest
        packed = pack_history(name=self.repository.name, tags=self.tags, previous=None)
        history = self.put(packed, ObjectKind.HISTORY)
        self.manifest = replace(manifest, history=history)
        references = [(root, ReferenceKind.ROOT_CATALOG), (history, ReferenceKind.HISTORY)]
        known = self.store.get(REFLOG_PATH) if previous else None
        name = self.repository.name
        reflog = extend_reflog(known, name=name, references=references, now=self.now)
        self.store.replace(REFLOG_PATH, reflog)
        return self.manifest


def holder(path, mounts):
    """The mountpoint at or above a path; `mounts` the longest first."""
    return next((m for m in mounts if path == m or path.startswith(m + b"/")), b"")


@pytest.fixture(scope="session")
def made_repository(tmp_path_factory):
    """Keys are made once: they take their time."""
    folder = tmp_path_factory.mktemp("repository")
    keys = Keys(folder, "t.cernvm.test")
    create_keys(keys, now=START)
    return new_repository(Home(folder), "t.cernvm.test", keys=folder)


@pytest.fixture
def make(made_repository):
    """A maker with a new store in memory."""
    return lambda store=None: Maker(store or MemoryStore(), made_repository)
