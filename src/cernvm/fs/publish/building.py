"""The catalogs of a new revision, written from the deepest to the root; those whose rows did not change are reused."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime

from cernvm.core.digest import Digest
from cernvm.fs.format.catalog import (
    CATALOG_MARKER,
    SCHEMA_REVISION,
    Properties,
    format_entry,
    format_nested,
)
from cernvm.fs.format.compress import deflate_content
from cernvm.fs.format.entry import Entry, EntryFlag, NestedCatalog
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.pack_table import PackedStretch, format_stretch
from cernvm.fs.format.statistics import Counters, Statistics, count_entries
from cernvm.fs.publish.content import Progress
from cernvm.fs.publish.grafting import Gap, Link, count_links, open_chain, take_out
from cernvm.fs.publish.index import Index, KnownCatalog
from cernvm.fs.publish.packing import Packer
from cernvm.fs.publish.plan import CatalogLimits, split
from cernvm.fs.publish.profiles import ProfileWriter, Recording, WrittenProfile
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import Written, write_object
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Catalog, Item, pack_catalog
from cernvm.fs.survey.finding import Finder
from cernvm.fs.survey.reading import read_catalog


@dataclass(frozen=True, slots=True)
class _Below:
    """A stored nested catalog and what it counts with all below it."""

    nested: NestedCatalog
    total: Counters


@dataclass(slots=True)
class CatalogBuilder:
    """Writes the catalogs of one new revision, and the profiles that its root catalog names.

    Shape: `written` counts the catalogs that were not reused.
    """

    repository: Repository
    store: ObjectStore
    index: Index
    previous: Manifest
    now: datetime
    progress: Progress
    packer: Packer
    recordings: Sequence[Recording] = ()
    written: int = 0
    profiles: list[WrittenProfile] = field(default_factory=list)

    def build(self, items: list[Item], *, at: bytes, limits: CatalogLimits) -> Written:
        """The root catalog, once all catalogs are stored; `items` are what stands at and below `at`."""
        marker = self._marker()
        if not at:
            catalogs = split(items, top=b"", limits=limits, marker=marker)
            below = self._build_nested(catalogs, top=b"")
            return self._build_root(catalogs[b""], below)
        chain = open_chain(self.previous.root_catalog, at, self.store)
        last = chain[-1].catalog
        gap = take_out(last, at, like=items[0].entry, store=self.store)
        top = last.properties.root_prefix
        catalogs = split(items, top=top, limits=limits, marker=marker, around=len(gap.items))
        below = self._build_nested(catalogs, top=top)
        return self._build_chain(chain, _filled(last, gap, catalogs[top], below, at))

    def build_same(self) -> Written:
        """The root catalog of a revision with the last one's tree, which may have other profiles."""
        root = read_catalog(self.previous.root_catalog, self.store)
        return self._write_root(self._renewed(root, self.previous.root_catalog))

    def _marker(self) -> Entry:
        """The empty file, stored, that marks a catalog which is split off by itself."""
        stored = deflate_content(b"", self.repository.compression)
        digest = self.repository.algorithm.digest(stored)
        path = object_path(digest, ObjectKind.PLAIN)
        if not self.store.has(path):
            self.store.put(path, stored)
        return Entry(
            name=CATALOG_MARKER,
            mode=stat.S_IFREG | 0o644,
            size=0,
            mtime_s=0,
            uid=0,
            gid=0,
            flags=EntryFlag.FILE,
            digest=digest,
            compression=self.repository.compression,
        )

    def _build_root(self, items: Sequence[Item], below: Sequence[_Below]) -> Written:
        catalog = Catalog(
            properties=self._properties(b"", self.previous.root_catalog),
            items=tuple(items),
            nested=tuple(one.nested for one in below),
            statistics=_statistics(items, [one.total for one in below]),
            packs=self.packer.stretches_of(items),
        )
        return self._write_root(catalog)

    def _build_nested(self, catalogs: dict[bytes, list[Item]], *, top: bytes) -> list[_Below]:
        """Store all catalogs but the top one; returns those that the top one refers to."""
        below: dict[bytes, list[_Below]] = {prefix: [] for prefix in catalogs}
        for prefix in sorted(catalogs, key=lambda path: path.count(b"/"), reverse=True):
            if prefix != top:
                packed = self._build_one(prefix, catalogs[prefix], below[prefix])
                below[_enclosing(prefix, catalogs, top)].append(packed)
        return below[top]

    def _build_one(self, prefix: bytes, items: list[Item], below: list[_Below]) -> _Below:
        known = self.index.catalog(prefix)
        packs = self.packer.stretches_of(items)
        fingerprint = self._fingerprint(items, below, packs)
        if known is not None and known.fingerprint == fingerprint and self._has(known.nested):
            self.index.remember_catalog(known)
            return _Below(known.nested, known.total)
        statistics = _statistics(items, [one.total for one in below])
        before = None if known is None else known.nested.digest
        written = self._write(
            Catalog(
                properties=self._properties(prefix, before),
                items=tuple(items),
                nested=tuple(one.nested for one in below),
                statistics=statistics,
                packs=packs,
            )
        )
        nested = NestedCatalog(prefix, written.digest, written.size_bytes)
        self.index.remember_catalog(KnownCatalog(fingerprint, nested, statistics.total))
        return _Below(nested, statistics.total)

    def _build_chain(self, chain: Sequence[Link], changed: Catalog) -> Written:
        """Store the changed catalog at the chain's end, then those above it, which refer to it by a new digest."""
        for depth in range(len(chain) - 1, 0, -1):
            link, above = chain[depth], chain[depth - 1].catalog
            assert link.nested is not None
            before, after = link.catalog.statistics.total, changed.statistics.total
            written = self._write(self._renewed(changed, link.digest))
            nested = NestedCatalog(link.nested.path, written.digest, written.size_bytes)
            subtree = above.statistics.subtree - before + after
            changed = replace(
                above,
                items=_with_mountpoint(above.items, changed.items[0]),
                nested=tuple(nested if n == link.nested else n for n in above.nested),
                statistics=Statistics(above.statistics.own, subtree),
            )
        return self._write_root(self._renewed(changed, chain[0].digest))

    def _renewed(self, catalog: Catalog, before: Digest) -> Catalog:
        properties = self._properties(catalog.properties.root_prefix, before)
        packs = self.packer.stretches_of(catalog.items)
        return replace(catalog, properties=properties, packs=packs)

    def _properties(self, prefix: bytes, before: Digest | None) -> Properties:
        return Properties(
            schema_revision=SCHEMA_REVISION,
            revision=self.previous.revision + 1,
            last_modified_s=int(self.now.timestamp()),
            previous=before,
            root_prefix=prefix,
            ttl_s=None if prefix else self.previous.ttl_s,
        )

    def _write_root(self, root: Catalog) -> Written:
        """The root catalog comes last: profiles name what is in the others."""
        with closing(Finder(root, self.store)) as finder:
            writer = ProfileWriter(self.store, self.packer)
            self.profiles = writer.write(finder.find, self.recordings)
        named = tuple((one.label, one.digest) for one in self.profiles if one.digest is not None)
        return self._write(replace(root, profiles=named))

    def _write(self, catalog: Catalog) -> Written:
        packed = pack_catalog(catalog, algorithm=self.repository.algorithm)
        written = write_object(self.repository, self.store, packed, ObjectKind.CATALOG)
        self.progress.add_object(written.stored_bytes)
        self.written += 1
        return written

    def _has(self, nested: NestedCatalog) -> bool:
        return self.store.has(object_path(nested.digest, ObjectKind.CATALOG))

    def _fingerprint(
        self, items: Iterable[Item], below: Iterable[_Below], packs: Iterable[PackedStretch]
    ) -> bytes:
        """Equal for catalogs that say the same, whatever revision they were packed for."""
        hasher = hashlib.sha256()
        for item in items:
            row = format_entry(item.entry, item.path, algorithm=self.repository.algorithm)
            chunks = [(c.offset, c.size, c.digest.raw) for c in item.chunks]
            hasher.update(repr((row, chunks)).encode())
        hasher.update(repr([format_nested(one.nested) for one in below]).encode())
        hasher.update(repr([format_stretch(stretch) for stretch in packs]).encode())
        return hasher.digest()


def _filled(
    catalog: Catalog, gap: Gap, items: Sequence[Item], below: Sequence[_Below], at: bytes
) -> Catalog:
    """The catalog with the new items where the old ones were taken out."""
    offset = max((item.entry.hardlink_group for item in gap.items), default=0)
    moved = [_regrouped(item, offset) for item in items]
    together = sorted([*gap.items, *moved], key=lambda item: item.path)
    linked = count_links(together, at)
    nested_count = len(gap.nested) + len(below)
    subtree = catalog.statistics.subtree - gap.removed
    for one in below:
        subtree += one.total
    return replace(
        catalog,
        items=tuple(linked),
        nested=(*gap.nested, *(one.nested for one in below)),
        statistics=Statistics(_count(linked, nested_count), subtree),
    )


def _regrouped(item: Item, offset: int) -> Item:
    group = item.entry.hardlink_group
    if not group or not offset:
        return item
    return replace(item, entry=replace(item.entry, hardlink_group=group + offset))


def _with_mountpoint(items: Sequence[Item], root: Item) -> tuple[Item, ...]:
    """The items with the mountpoint's attributes made those of the nested catalog's root, as the format wants."""
    flags = root.entry.flags & ~EntryFlag.NESTED_ROOT | EntryFlag.NESTED_MOUNTPOINT
    mountpoint = Item(root.path, replace(root.entry, flags=flags))
    return tuple(mountpoint if item.path == root.path else item for item in items)


def _enclosing(prefix: bytes, catalogs: dict[bytes, list[Item]], top: bytes) -> bytes:
    path = prefix
    while path:
        path = path.rpartition(b"/")[0]
        if path in catalogs:
            return path
    return top


def _statistics(items: Sequence[Item], totals: Sequence[Counters]) -> Statistics:
    return Statistics(_count(items, len(totals)), sum(totals, Counters()))


def _count(items: Iterable[Item], nested: int) -> Counters:
    return count_entries(((item.entry, len(item.chunks)) for item in items), nested=nested)
