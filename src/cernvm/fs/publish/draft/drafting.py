"""The draft itself: which catalog a path lies in, and what a change of it means for rows around it."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from cernvm.core.digest import Digest
from cernvm.core.errors import (
    InvalidInputError,
)
from cernvm.fs.format.catalog import CATALOG_MARKER, MAX_PATH_BYTES, format_entry, path_key
from cernvm.fs.format.entry import DIRECTORY_SIZE_BYTES, Entry, EntryFlag, EntryKind, NestedCatalog
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.publish.content import Progress
from cernvm.fs.publish.draft.catalogs import DraftCatalog, Shelf
from cernvm.fs.publish.draft.copying import copy_tree
from cernvm.fs.publish.draft.faults import meaning, translated
from cernvm.fs.publish.draft.finishing import Finished, Finisher
from cernvm.fs.publish.draft.rows import (
    CHUNKED,
    COUNT_MASK,
    DIRECTORY,
    FLAGS,
    GROUP_SHIFT,
    KEY,
    LINKS,
    MOUNTPOINT,
    NAME,
    NESTED,
    PARENT,
    ROOT,
    Row,
    Rows,
)
from cernvm.fs.publish.draft.splitting import Splitter
from cernvm.fs.publish.draft.tree import MAX_DEPTH, Tree
from cernvm.fs.publish.draft.weighing import CatalogLimits
from cernvm.fs.publish.packing import Packer
from cernvm.fs.publish.profiles import Recording
from cernvm.fs.publish.repository import Repository
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item

_MOST_TOPS = 10_000
_FIXED = int(EntryFlag.HIDDEN) | int(EntryFlag.BIND_MOUNTPOINT)


class Draft(Tree):
    """The next revision's tree while it is being made; `open_draft` makes one. After an error it is of no more use."""

    def __init__(
        self,
        repository: Repository,
        store: ObjectStore,
        shelf: Shelf,
        root: DraftCatalog,
        *,
        last: Manifest | None,
        now: datetime,
        progress: Progress,
    ) -> None:
        super().__init__(shelf, root)
        self.repository = repository
        self._store = store
        self._algorithm = repository.algorithm
        self._last = last
        self._now = now
        self._progress = progress
        self._splitter = Splitter(shelf)
        # tops of new directories: none that came below the one before, the root alone for very many
        self.came: list[bytes] = []

    @property
    def is_changed(self) -> bool:
        """Whether a catalog would have to be written."""
        return self.root.is_touched

    def put(self, item: Item) -> None:
        """Have an item stand at its path, in a directory that is there; nothing happens where it already does.

        Shape: link counts are the draft's own; a file that was one of a group of hard links leaves it.
        """
        entry = item.entry
        if entry.hardlink_group or (entry.link_count != 1 and not entry.is_directory):
            entry = replace(entry, hardlink_group=0, link_count=1)
        try:  # not by translated: this is done for every path
            self._put(item.path, entry, item)
        except sqlite3.Error as error:
            raise meaning(error) from error

    def put_linked(self, items: Sequence[Item]) -> None:
        """Have one file stand under several names of one directory."""
        folders = {item.path.rpartition(b"/")[0] for item in items}
        if len(folders) != 1 or any(item.entry.kind is not EntryKind.FILE for item in items):
            raise InvalidInputError("only files of one directory can be linked")
        if len(items) == 1:
            self.put(items[0])
            return
        with translated():
            catalog, _ = self.folder(folders.pop())
            group = self._group_of(catalog, items)
            if group is None:
                return
            for item in items:
                entry = replace(item.entry, hardlink_group=group, link_count=len(items))
                self._put(item.path, entry, item)

    def ensure_folders(self, path: bytes, like: Entry) -> None:
        """Make the directories on the way to a path, and the path itself, where they are missing.

        Shape: new ones take owner and time from `like`. Errors: `InvalidInputError` where something else stands.
        """
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            folder = b"/".join(parts[: depth + 1])
            item = self.find(folder)
            if item is None:
                self.put(Item(folder, _directory(parts[depth], like)))
            elif not item.entry.is_directory:
                raise InvalidInputError(f"{folder.decode('utf-8', 'replace')} is no directory")

    def remove(self, path: bytes) -> None:
        """Have nothing stand at a path or below it."""
        if not path:
            raise InvalidInputError("the root cannot be removed")
        with translated():
            found = self.row(path)
            if found is not None:
                self._remove(path, found[1])

    def clear(self, path: bytes) -> None:
        """Have nothing stand below a directory, but what is hidden."""
        for item in self.listing(path):
            self.remove(item.path)

    def copy(self, source: bytes, target: bytes, root: Digest | None = None) -> None:
        """Have what stands at and below `source`, here or in the tree of another root catalog, stand at `target`.

        Shape: what stood there goes. No content is read, and nested catalogs that keep their path are not either.
        """
        if root is None:
            if target == source:
                return
            if target.startswith(source + b"/") or source.startswith(target + b"/"):
                raise InvalidInputError(
                    "a folder cannot be copied into itself, or over what holds it"
                )
        copy_tree(self if root is None else self.beside(root), source, self, target)

    def beside(self, root: Digest) -> Tree:
        """The tree of another root catalog; it goes with this draft."""
        with translated():
            return Tree(self.shelf, self.shelf.load(b"", root, None))

    def renew(self) -> None:
        """Have all catalogs written anew, those that did not change too."""
        with translated():
            waiting = [self.root]
            while waiting:
                catalog = waiting.pop()
                catalog.touch()
                waiting += [self.shelf.nested(catalog, one) for one in catalog.nested.values()]

    def set_property(self, key: str, value: str | None) -> None:
        """Write a property of the root catalog, or take it away."""
        with translated():
            rows = self.shelf.rows(self.root)
            wanted = None if value is None else value.encode()
            if rows.property(key) != wanted:
                self.root.touch()
                rows.set_property(key, value)

    def put_nested(self, nested: NestedCatalog) -> None:
        """Have a nested catalog of the store, which was made for this path, stand there as it is."""
        with translated():
            if self.stored_nested(nested.path) == nested:
                return
            folder = nested.path.rpartition(b"/")[0]
            catalog, _ = self.folder(folder)
            loaded = self.shelf.load(nested.path, nested.digest, catalog)
            root = self.shelf.rows(loaded).find(path_key(nested.path))
            assert root is not None
            total = loaded.counted
            self.shelf.discard(loaded)
            self.remove(nested.path)
            catalog.touch()
            row = (*path_key(nested.path), *path_key(folder), *root[LINKS:FLAGS])
            row += (root[FLAGS] & ~ROOT | MOUNTPOINT, *root[NAME:])
            self.shelf.rows(catalog).insert(row)
            self._count_link(catalog, folder, 1)
            catalog.nested[nested.path] = nested
            catalog.gained += total
            self._note(nested.path)
            self.forget_folders()

    def put_bind(self, item: Item, bound: NestedCatalog) -> None:
        """Have a directory show the tree of a root catalog, which need not be of this path."""
        flags = item.entry.flags | EntryFlag.BIND_MOUNTPOINT
        with translated():
            if item.path != bound.path:
                raise InvalidInputError("a directory is bound to its own path")
            catalog, _ = self.folder(item.path.rpartition(b"/")[0])
            if bound in self.shelf.rows(catalog).binds():
                return
            self.put(replace(item, entry=replace(item.entry, flags=flags)))
            catalog.touch()
            self.shelf.rows(catalog).set_bind(bound)

    def finish(
        self,
        limits: CatalogLimits | None = None,
        packer: Packer | None = None,
        recordings: Sequence[Recording] = (),
    ) -> Finished:
        """Store the root catalog and all others that changed; without `packer` they have no packs and profiles."""
        finisher = Finisher(
            self.repository,
            self._store,
            self.shelf,
            self._splitter,
            self.root,
            self._last,
            self._now,
            self._progress,
            limits or CatalogLimits(),
            packer,
        )
        with translated():
            self.forget_folders()
            return finisher.finish(recordings, self.found)

    # --- changes

    def _put(self, path: bytes, entry: Entry, item: Item) -> None:
        folder, _, name = path.rpartition(b"/")
        if name != entry.name or (path and not name) or (name and path[:1] != b"/"):
            raise InvalidInputError(f"{path!r} is no path of {entry.name!r}")
        if not path:
            self._put_directory(path, format_entry(entry, path, algorithm=self._algorithm))
            return
        if name == CATALOG_MARKER and not stat.S_ISREG(entry.mode):
            raise InvalidInputError(
                f"{path.decode('utf-8', 'replace')} is no regular file",
                advice="call it otherwise: the name marks nested catalogs",
            )
        catalog, parent = self.folder(folder)
        row = format_entry(entry, path, algorithm=self._algorithm, parent=parent)
        if row[FLAGS] & NESTED:
            row = (*row[:FLAGS], row[FLAGS] & ~NESTED, *row[NAME:])
        rows = self.shelf.rows(catalog)
        old = rows.find(row[KEY])
        if old is not None:
            if old[FLAGS] & row[FLAGS] & DIRECTORY:
                self._put_directory(path, row)
                return
            if not (old[FLAGS] | row[FLAGS]) & DIRECTORY:
                self._replace(catalog, rows, old, row, item)
                return
            self._remove(path, old)
            rows = self.shelf.rows(catalog)
        catalog.touch()
        if row[FLAGS] & DIRECTORY:
            rows.insert((*row[:LINKS], 2, *row[LINKS + 1 :]))
            self._count_link(catalog, folder, 1)
            self._note(path)
        else:
            rows.insert(row, item.chunks)
            if name == CATALOG_MARKER and folder:
                self._split(catalog, folder)

    def _note(self, path: bytes) -> None:
        """Remember that a directory came."""
        if not self.came or not path.startswith(self.came[-1] + b"/"):
            self.came.append(path)
            if len(self.came) > _MOST_TOPS:
                self.came = [b""]

    def _put_directory(self, path: bytes, row: Row) -> None:
        """Other attributes for a directory, whose children stay, in both catalogs that list it."""
        catalog = self.owner(path)
        rows = self.shelf.rows(catalog)
        old = rows.find(path_key(path))
        if old is None or not row[FLAGS] & DIRECTORY:
            raise InvalidInputError("the root is a directory")
        flags = row[FLAGS] | old[FLAGS] & (NESTED | _FIXED)
        wanted = (*old[: LINKS + 1], *row[LINKS + 1 : FLAGS], flags, *row[NAME:])
        if wanted == old:
            return
        catalog.touch()
        rows.update(wanted)
        if path and catalog.prefix == path and catalog.parent is not None:
            above = self.shelf.rows(catalog.parent)
            above.update((*wanted[:FLAGS], flags & ~ROOT | MOUNTPOINT, *wanted[NAME:]))

    def _replace(self, catalog: DraftCatalog, rows: Rows, old: Row, row: Row, item: Item) -> None:
        chunks = [(chunk.offset, chunk.size, chunk.digest.raw) for chunk in sorted(item.chunks)]
        if old == row and rows.chunks(old) == chunks:
            return
        catalog.touch()
        self._leave_group(rows, old, row)
        if old[FLAGS] & CHUNKED:
            rows.delete_chunks(old[KEY])
        rows.update(row)
        if row[FLAGS] & CHUNKED:
            rows.add_chunks(row[KEY], item.chunks)
        if row[NAME] == CATALOG_MARKER and not stat.S_ISREG(old[7]) and stat.S_ISREG(row[7]):
            folder = item.path.rpartition(b"/")[0]
            if folder and catalog.prefix != folder:
                self._split(catalog, folder)

    def _remove(self, path: bytes, row: Row) -> None:
        folder = path.rpartition(b"/")[0]
        catalog, _ = self.folder(folder)
        catalog.touch()
        if row[FLAGS] & DIRECTORY:
            self.forget_folders()
            below = path + b"/"
            for name in [n for n in catalog.nested if n == path or n.startswith(below)]:
                self._drop(catalog, name)
            rows = self.shelf.rows(catalog)
            rows.delete_binds(path)
            rows.delete_below(row[KEY])
            rows.delete(row)
            self._count_link(catalog, folder, -1)
        else:
            rows = self.shelf.rows(catalog)
            self._leave_group(rows, row, None)
            rows.delete(row)

    def _drop(self, catalog: DraftCatalog, path: bytes) -> None:
        """Forget a nested catalog and all below it."""
        nested = catalog.nested[path]
        dropped = self.shelf.nested(catalog, nested)
        catalog.gained -= dropped.counted
        del catalog.nested[path]
        del catalog.loaded[path]
        waiting = [dropped]
        while waiting:
            one = waiting.pop()
            waiting += one.loaded.values()
            self.shelf.discard(one)

    def _leave_group(self, rows: Rows, old: Row, row: Row | None) -> None:
        """Have the other names of a file know that one of them is gone."""
        group = old[LINKS] >> GROUP_SHIFT
        if not group or (row is not None and row[LINKS] == old[LINKS]):
            return
        others = [key for key in rows.group(old[PARENT], group) if key != old[KEY]]
        links = group << GROUP_SHIFT | len(others) if len(others) > 1 else 1
        rows.set_links(others, links)

    def _group_of(self, catalog: DraftCatalog, items: Sequence[Item]) -> int | None:
        """The number for a group of just these names; None where they are one as they should be."""
        rows = self.shelf.rows(catalog)
        found = [rows.find(path_key(item.path)) for item in items]
        first = found[0]
        if first is not None and all(
            row is not None and row[LINKS] == first[LINKS] for row in found
        ):
            group = first[LINKS] >> GROUP_SHIFT
            members = rows.group(first[PARENT], group) if group else []
            if len(members) == len(items) == first[LINKS] & COUNT_MASK:
                return int(group)
        return rows.last_group() + 1

    def _count_link(self, catalog: DraftCatalog, folder: bytes, count: int) -> None:
        """Count a directory that came or went, in both catalogs that list its parent."""
        key = path_key(folder)
        self.shelf.rows(catalog).add_links(key, count)
        if folder and catalog.prefix == folder and catalog.parent is not None:
            self.shelf.rows(catalog.parent).add_links(key, count)

    def _split(self, catalog: DraftCatalog, folder: bytes) -> None:
        if catalog.prefix != folder:
            if len(folder) > MAX_PATH_BYTES or catalog.depth >= MAX_DEPTH:
                raise InvalidInputError(
                    f"{folder[:80].decode('utf-8', 'replace')}… is too deep for a nested catalog",
                    advice="take the marker .cvmfscatalog away",
                )
            self._splitter.split(catalog, folder)
            self.forget_folders()


def _directory(name: bytes, like: Entry) -> Entry:
    return Entry(
        name=name,
        mode=stat.S_IFDIR | 0o755,
        size=DIRECTORY_SIZE_BYTES,
        mtime_s=like.mtime_s,
        mtime_ns=like.mtime_ns,
        uid=like.uid,
        gid=like.gid,
        flags=EntryFlag.DIRECTORY,
        link_count=2,
    )
