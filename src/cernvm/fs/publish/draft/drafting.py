"""The draft itself: which catalog a path lies in, and what a change of it means for rows around it."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime

from cernvm.core.digest import Digest
from cernvm.core.errors import (
    CatalogFormatError,
    CvmError,
    InvalidInputError,
    NotFoundError,
    SpaceError,
)
from cernvm.fs.format.catalog import CATALOG_MARKER, PathKey, format_entry, path_key
from cernvm.fs.format.entry import DIRECTORY_SIZE_BYTES, Entry, EntryFlag, EntryKind, NestedCatalog
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.publish.content import Progress
from cernvm.fs.publish.draft.catalogs import DraftCatalog, Shelf
from cernvm.fs.publish.draft.copying import copy_tree
from cernvm.fs.publish.draft.finishing import Finished, Finisher
from cernvm.fs.publish.draft.rows import (
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
    item_of,
)
from cernvm.fs.publish.draft.splitting import Splitter
from cernvm.fs.publish.draft.weighing import CatalogLimits
from cernvm.fs.publish.draft.workshop import open_workshop
from cernvm.fs.publish.packing import Packer
from cernvm.fs.publish.profiles import Recording
from cernvm.fs.publish.repository import Repository
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item
from cernvm.fs.survey.finding import Found

_MAX_DEPTH = 256
_MOST_FOLDERS = 4096
_FIXED = int(EntryFlag.HIDDEN) | int(EntryFlag.BIND_MOUNTPOINT)


class Draft:
    """The next revision's tree while it is being made; `open_draft` makes one.

    Shape: paths are absolute within the repository, empty for its root. Concurrency: one thread.
    Errors: `NotFoundError` and `CatalogFormatError` where the store lost or damaged a catalog, `SpaceError`. After any
    of these the draft is of no more use.
    """

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
        self.repository = repository
        self._store = store
        self._algorithm = repository.algorithm
        self.shelf = shelf
        self.root = root
        self.last = last
        self.now = now
        self.progress = progress
        self._splitter = Splitter(shelf)
        self._folders: dict[bytes, tuple[DraftCatalog, PathKey]] = {}
        self.came: list[bytes] = []  # new directories, without those that came below the one before

    @property
    def is_changed(self) -> bool:
        """Whether a catalog would have to be written."""
        return self.root.is_touched

    def find(self, path: bytes) -> Item | None:
        """What stands at a path; None where there is nothing."""
        with _translated():
            found = self._row(path)
            if found is None:
                return None
            rows, row = found
            return item_of(path, row, rows.chunks(row))

    def listing(self, path: bytes, *, with_hidden: bool = False) -> list[Item]:
        """What stands in a directory, in the order of names; hidden ones only on demand.

        Errors: `NotFoundError` where there is no such directory.
        """
        with _translated():
            catalog, key = self._folder(path)
            rows = self.shelf.rows(catalog)
            return [
                item_of(path + b"/" + row[NAME], row, rows.chunks(row))
                for row in rows.children(key)
                if with_hidden or not row[FLAGS] & EntryFlag.HIDDEN
            ]

    def put(self, item: Item) -> None:
        """Have an item stand at its path, in a directory that is there; nothing happens where it already does.

        Shape: link counts are the draft's own; a file that was one of a group of hard links leaves it.
        """
        entry = item.entry
        if entry.hardlink_group or (entry.link_count != 1 and not entry.is_directory):
            entry = replace(entry, hardlink_group=0, link_count=1)
        try:  # not by _translated: this is done for every path
            self._put(item.path, entry, item)
        except sqlite3.Error as error:
            raise _meaning(error) from error

    def put_linked(self, items: Sequence[Item]) -> None:
        """Have one file stand under several names of one directory."""
        folders = {item.path.rpartition(b"/")[0] for item in items}
        if len(folders) != 1 or any(item.entry.kind is not EntryKind.FILE for item in items):
            raise InvalidInputError("only files of one directory can be linked")
        if len(items) == 1:
            self.put(items[0])
            return
        with _translated():
            catalog, _ = self._folder(folders.pop())
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
        with _translated():
            found = self._row(path)
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
        with _translated():
            copy_tree(self if root is None else self.beside(root), source, self, target)

    def beside(self, root: Digest) -> Draft:
        """The tree of another root catalog, to be read only; it goes with this draft."""
        catalog = self.shelf.load(b"", root, None)
        return Draft(
            self.repository,
            self._store,
            self.shelf,
            catalog,
            last=None,
            now=self.now,
            progress=self.progress,
        )

    def stored_nested(self, path: bytes) -> NestedCatalog | None:
        """The nested catalog that is mounted at a path, if it is in the store as it stands here."""
        catalog = self._owner(path.rpartition(b"/")[0])
        known = catalog.loaded.get(path)
        return None if known is not None and known.is_touched else catalog.nested.get(path)

    def renew(self) -> None:
        """Have all catalogs written anew, those that did not change too."""
        with _translated():
            waiting = [self.root]
            while waiting:
                catalog = waiting.pop()
                catalog.touch()
                waiting += [self.shelf.nested(catalog, one) for one in catalog.nested.values()]

    def set_property(self, key: str, value: str | None) -> None:
        """Write a property of the root catalog, or take it away."""
        with _translated():
            rows = self.shelf.rows(self.root)
            wanted = None if value is None else value.encode()
            if rows.property(key) != wanted:
                self.root.touch()
                rows.set_property(key, value)

    def put_nested(self, nested: NestedCatalog) -> None:
        """Have a nested catalog of the store, which was made for this path, stand there as it is."""
        with _translated():
            if self.stored_nested(nested.path) == nested:
                return
            folder = nested.path.rpartition(b"/")[0]
            catalog, _ = self._folder(folder)
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
            self._folders.clear()

    def found(self, path: bytes) -> Found | None:
        """What stands at a path, and the nested catalogs on the way to it, as they are in the store."""
        item = self.find(path)
        if item is None:
            return None
        chain = []
        catalog = self._owner(path.rpartition(b"/")[0])
        while catalog.parent is not None:
            chain.append(catalog.parent.nested[catalog.prefix])
            catalog = catalog.parent
        return Found(item, tuple(reversed(chain)))

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
            self.last,
            self.now,
            self.progress,
            limits or CatalogLimits(),
            packer,
        )
        with _translated():
            self._folders.clear()
            return finisher.finish(recordings, self.found)

    # --- where a path lies

    def _row(self, path: bytes) -> tuple[Rows, Row] | None:
        """The row of a path, in the catalog that lists its contents where it is a directory."""
        catalog = self._owner(path)
        rows = self.shelf.rows(catalog)
        row = rows.find(path_key(path))
        return None if row is None else (rows, row)

    def _folder(self, path: bytes) -> tuple[DraftCatalog, PathKey]:
        """The catalog that lists a directory's contents, and the directory's key."""
        known = self._folders.get(path)
        if known is not None:
            return known
        catalog, key = self._owner(path), path_key(path)
        row = self.shelf.rows(catalog).find(key)
        shown = path.decode("utf-8", "replace") or "/"
        if row is None:
            raise NotFoundError("directory", shown)
        if not row[FLAGS] & DIRECTORY:
            raise InvalidInputError(f"{shown} is no directory")
        if len(self._folders) >= _MOST_FOLDERS:
            self._folders.clear()
        self._folders[path] = known = (catalog, key)
        return known

    def _owner(self, path: bytes) -> DraftCatalog:
        """The deepest catalog on the way to a path, itself included."""
        catalog = self.root
        end = depth = 0
        while catalog.nested and end < len(path):
            slash = path.find(b"/", end + 1)
            end = len(path) if slash < 0 else slash
            nested = catalog.nested.get(path[:end])
            if nested is not None:
                depth += 1
                if depth > _MAX_DEPTH:
                    raise CatalogFormatError("catalogs are nested too deep", where=repr(path[:80]))
                catalog = self.shelf.nested(catalog, nested)
        return catalog

    # --- changes

    def _put(self, path: bytes, entry: Entry, item: Item) -> None:
        folder, _, name = path.rpartition(b"/")
        if name != entry.name:
            raise InvalidInputError(f"{path!r} is not called {entry.name!r}")
        if not path:
            self._put_directory(path, format_entry(entry, path, algorithm=self._algorithm))
            return
        catalog, parent = self._folder(folder)
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
            if name == CATALOG_MARKER and folder and stat.S_ISREG(entry.mode):
                self._split(catalog, folder)

    def _note(self, path: bytes) -> None:
        """Remember that a directory came."""
        if not self.came or not path.startswith(self.came[-1] + b"/"):
            self.came.append(path)

    def _put_directory(self, path: bytes, row: Row) -> None:
        """Other attributes for a directory, whose children stay, in both catalogs that list it."""
        catalog = self._owner(path)
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
        if old[FLAGS] & EntryFlag.CHUNKED:
            rows.delete_chunks(old[KEY])
        rows.update(row)
        if row[FLAGS] & EntryFlag.CHUNKED:
            rows.add_chunks(row[KEY], item.chunks)
        if row[NAME] == CATALOG_MARKER and not stat.S_ISREG(old[7]) and stat.S_ISREG(row[7]):
            folder = item.path.rpartition(b"/")[0]
            if folder and catalog.prefix != folder:
                self._split(catalog, folder)

    def _remove(self, path: bytes, row: Row) -> None:
        folder = path.rpartition(b"/")[0]
        catalog, _ = self._folder(folder)
        catalog.touch()
        if row[FLAGS] & DIRECTORY:
            self._folders.clear()
            below = path + b"/"
            for name in [n for n in catalog.nested if n == path or n.startswith(below)]:
                self._drop(catalog, name)
            rows = self.shelf.rows(catalog)
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
            self._splitter.split(catalog, folder)
            self._folders.clear()


@contextmanager
def open_draft(
    repository: Repository,
    store: ObjectStore,
    base: Manifest | Digest,
    *,
    now: datetime,
    last: Manifest | None = None,
    progress: Progress | None = None,
) -> Iterator[Draft]:
    """A draft that begins as the tree of `base`, a revision or a root catalog.

    Shape: `last` is the revision that the new one will follow, `base` itself unless it is given.
    """
    with ExitStack() as stack:
        drafts = repository.index.with_name(f"{repository.name}.drafts")
        folder = stack.enter_context(open_workshop(drafts))
        shelf = Shelf(store, folder)
        stack.callback(shelf.close)
        digest = base if isinstance(base, Digest) else base.root_catalog
        followed = last if last is not None or isinstance(base, Digest) else base
        with _translated():
            root = shelf.load(b"", digest, None)
        yield Draft(
            repository,
            store,
            shelf,
            root,
            last=followed,
            now=now,
            progress=progress or Progress(),
        )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _meaning(error) from error


def _meaning(error: sqlite3.Error) -> CvmError:
    if "full" in str(error):
        return SpaceError(
            f"a draft's catalog: {error}", advice="free some space in the home folder"
        )
    return CatalogFormatError(f"it cannot be edited: {error}", where="catalog")


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
