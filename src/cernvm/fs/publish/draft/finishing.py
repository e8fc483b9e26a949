"""From a draft to stored catalogs: split and merged where the format wants it, counted, packed, the deepest first."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore

from cernvm.fs.format import pack_table
from cernvm.fs.format.catalog import (
    AUTOCATALOG_MARKER,
    CATALOG_MARKER,
    MAX_PATH_BYTES,
    SCHEMA,
    SCHEMA_REVISION,
    format_entry,
    path_key,
)
from cernvm.fs.format.deflater import find_deflater
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.statistics import Counters, Statistics
from cernvm.fs.publish.content import Progress
from cernvm.fs.publish.draft.catalogs import DraftCatalog, Shelf
from cernvm.fs.publish.draft.loading import compact
from cernvm.fs.publish.draft.markers import marker_entry
from cernvm.fs.publish.draft.rows import MODE, Rows
from cernvm.fs.publish.draft.splitting import Splitter
from cernvm.fs.publish.draft.weighing import CatalogLimits, heavy_folders
from cernvm.fs.publish.limiting import check_catalog
from cernvm.fs.publish.packing import Packer
from cernvm.fs.publish.profiles import Find, ProfileWriter, Recording, WrittenProfile
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import Written
from cernvm.fs.store.port import ObjectStore

_WHOLE_BYTES = 32 << 20  # a larger file is not read as a whole
_PIECE_BYTES = 1 << 20
_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of a draft: its root catalog, how many catalogs were written, and the profiles that the root names."""

    root: Written
    catalogs: int
    profiles: tuple[WrittenProfile, ...] = ()


@dataclass(slots=True)
class Finisher:
    """Stores the catalogs of a draft that were touched."""

    repository: Repository
    store: ObjectStore
    shelf: Shelf
    splitter: Splitter
    root: DraftCatalog
    last: Manifest | None
    now: datetime
    progress: Progress
    limits: CatalogLimits
    packer: Packer | None
    # a store far away takes many at a time, but no more are held in memory whole than there are cores
    deflating: AbstractContextManager[object] = field(
        default_factory=lambda: BoundedSemaphore(os.cpu_count() or 1)
    )

    def finish(self, recordings: Sequence[Recording], find: Find) -> Finished:
        """Store them all; `find` finds paths in what is stored by then."""
        self.root.touch()
        for catalog in _deepest_first(self.root):
            self._reshape(catalog)
        count = 0
        with self._opened_pool() as pool:
            for level in _levels(self.root):
                for catalog in level:
                    self._seal(catalog)
                for catalog, written in zip(level, pool.map(self._store, level), strict=True):
                    self._stored(catalog, written)
                count += len(level)
        profiles: list[WrittenProfile] = []
        if self.packer is not None:
            profiles = ProfileWriter(self.store, self.packer).write(find, recordings)
        self._seal(self.root)
        self._add_profiles(profiles)
        self.shelf.let_go(self.root)
        written = self._store(self.root)
        self.root.is_touched = False
        self.progress.add_object(written.stored_bytes)
        return Finished(written, count + 1, tuple(profiles))

    # --- which catalogs there are

    def _reshape(self, catalog: DraftCatalog) -> None:
        """Merge a catalog that lost its marker, or is small and was split off by itself; split one that is heavy."""
        rows = self.shelf.rows(catalog)
        if catalog.parent is not None:
            marks = [self._marker_row(catalog, n) for n in (CATALOG_MARKER, AUTOCATALOG_MARKER)]
            if marks[0] is None:
                self.splitter.merge(catalog)
                return
            if marks[1] is not None and rows.count() < self.limits.fewest_entries:
                for mark in marks:
                    if mark is not None:
                        rows.delete(mark)
                self.splitter.merge(catalog)
                return
        if rows.count() > self.limits.most_entries:
            for path in self._heavy(catalog, rows):
                self._mark(self.splitter.split(catalog, path))

    def _marker_row(self, catalog: DraftCatalog, name: bytes) -> tuple[object, ...] | None:
        row = self.shelf.rows(catalog).find(path_key(catalog.prefix + b"/" + name))
        return row if row is not None and stat.S_ISREG(row[MODE]) else None

    def _heavy(self, catalog: DraftCatalog, rows: Rows) -> list[bytes]:
        paths = [catalog.prefix]
        parents = [-1]
        positions = {path_key(catalog.prefix): 0}
        for path, key, parent in rows.folders(catalog.prefix):
            positions[key] = len(paths)
            paths.append(path)
            parents.append(positions[parent])
        names = [0] * len(paths)
        for parent, number in rows.folder_sizes():
            if parent in positions:  # that of the catalog's own root is elsewhere
                names[positions[parent]] = number
        taken = rows.folders_with((CATALOG_MARKER, AUTOCATALOG_MARKER))
        unfit = {positions[key] for key in taken if key in positions}
        unfit |= {at for at, path in enumerate(paths) if len(path) > MAX_PATH_BYTES}
        return [paths[at] for at in heavy_folders(parents, names, self.limits, unfit)]

    def _mark(self, catalog: DraftCatalog) -> None:
        """Say in a catalog that it was split off by itself."""
        rows = self.shelf.rows(catalog)
        root = rows.find(path_key(catalog.prefix))
        assert root is not None
        for name in (AUTOCATALOG_MARKER, CATALOG_MARKER):
            path = catalog.prefix + b"/" + name
            if rows.find(path_key(path)) is None:
                entry = marker_entry(
                    self.repository, self.store, name, mtime_s=root[8], mtime_ns=root[9]
                )
                rows.insert(format_entry(entry, path, algorithm=self.repository.algorithm))

    # --- what each one says

    def _seal(self, catalog: DraftCatalog) -> None:
        """Write what a catalog says of itself and of those below it."""
        rows = self.shelf.rows(catalog)
        rows.set_nested(catalog.nested.values())
        subtree = rows.statistics().subtree + catalog.gained
        if catalog.loaded.keys() == catalog.nested.keys():  # then even what was wrong becomes right
            subtree = sum((one.counted for one in catalog.loaded.values()), Counters())
        statistics = Statistics(rows.counters(nested=len(catalog.nested)), subtree)
        rows.set_statistics(statistics)
        check_catalog(catalog.prefix, statistics.own, is_strict=self.repository.settings.limits)
        if catalog.parent is not None:
            catalog.parent.gained += statistics.total - catalog.counted
        catalog.counted, catalog.gained = statistics.total, Counters()
        previous = catalog.digest
        revision = 1 if self.last is None else self.last.revision + 1
        if catalog.parent is None and self.last is not None:
            previous = self.last.root_catalog
            if rows.property("TTL") is None:
                rows.set_property("TTL", str(self.last.ttl_s))
        for key, value in (
            ("schema", SCHEMA),
            ("schema_revision", str(SCHEMA_REVISION)),
            ("revision", str(revision)),
            ("last_modified", str(int(self.now.timestamp()))),
            ("previous_revision", None if previous is None else str(previous)),
            ("root_prefix", catalog.prefix or None),
        ):
            rows.set_property(key, value)
        self._pack(catalog, rows, revision)
        self.shelf.let_go(catalog)

    def _pack(self, catalog: DraftCatalog, rows: Rows, revision: int) -> None:
        rows.set_packs(())
        rows.set_profiles(())
        rows.set_property(pack_table.PACKED_REVISION, None)
        if self.packer is None or not self.packer.is_on:
            return
        stretches = self.packer.stretches(rows.small_files(catalog.prefix))
        if stretches:
            rows.set_packs(stretches)
            rows.set_property(pack_table.PACKED_REVISION, str(revision))

    def _add_profiles(self, profiles: Iterable[WrittenProfile]) -> None:
        named = [(one.label, one.digest) for one in profiles if one.digest is not None]
        if named:
            rows = self.shelf.rows(self.root)
            rows.set_profiles(named)
            rows.set_property(pack_table.PACKED_REVISION, rows.property("revision"))

    # --- into the store

    @contextmanager
    def _opened_pool(self) -> Iterator[ThreadPoolExecutor]:
        lanes = max(os.cpu_count() or 1, self.store.lanes)
        with ThreadPoolExecutor(lanes, thread_name_prefix="catalogs") as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _store(self, catalog: DraftCatalog) -> Written:
        """In the pool: put one catalog, whose file nobody has open."""
        compact(catalog.path)
        size_bytes = catalog.path.stat().st_size
        with self.deflating:
            if size_bytes <= _WHOLE_BYTES:
                deflater = find_deflater(self.repository.settings.deflate)
                deflated = deflater.deflate(catalog.path.read_bytes())
            else:
                deflated = _deflated_in_pieces(catalog.path)
        digest = self.repository.algorithm.digest(deflated)
        self.store.put(object_path(digest, ObjectKind.CATALOG), deflated)
        return Written(digest, size_bytes, len(deflated))

    def _stored(self, catalog: DraftCatalog, written: Written) -> None:
        nested = NestedCatalog(catalog.prefix, written.digest, written.size_bytes)
        assert catalog.parent is not None
        catalog.parent.nested[catalog.prefix] = nested
        catalog.digest, catalog.is_touched = written.digest, False
        self.progress.add_object(written.stored_bytes)


def _deflated_in_pieces(path: Path) -> bytes:
    deflater = zlib.compressobj(_LEVEL)
    with path.open("rb", buffering=0) as file:
        pieces = [deflater.compress(piece) for piece in iter(partial(file.read, _PIECE_BYTES), b"")]
    return b"".join((*pieces, deflater.flush()))


def _touched(root: DraftCatalog) -> Iterator[DraftCatalog]:
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if one.is_touched:
            yield one
            waiting += one.loaded.values()


def _deepest_first(root: DraftCatalog) -> list[DraftCatalog]:
    return sorted(_touched(root), key=_depth, reverse=True)


def _levels(root: DraftCatalog) -> list[list[DraftCatalog]]:
    """All that were touched but the root: those that none of the others is below come first."""
    levels: dict[int, list[DraftCatalog]] = {}
    for catalog in _touched(root):
        if catalog is not root:
            levels.setdefault(_depth(catalog), []).append(catalog)
    return [sorted(levels[depth], key=_prefix) for depth in sorted(levels, reverse=True)]


def _depth(catalog: DraftCatalog) -> int:
    return catalog.prefix.count(b"/")


def _prefix(catalog: DraftCatalog) -> bytes:
    return catalog.prefix
