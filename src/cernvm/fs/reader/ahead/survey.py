"""What a directory holds, as its catalog tells it without asking the network."""

from __future__ import annotations

import threading
from collections import OrderedDict
from weakref import WeakKeyDictionary, ref

from cernvm.core.errors import CvmError
from cernvm.fs.format.catalog import path_key
from cernvm.fs.format.entry import Entry, EntryKind
from cernvm.fs.format.pack_table import PackTable, is_packed
from cernvm.fs.reader.ahead.course import Folder, Stop, Wanted
from cernvm.fs.reader.ahead.tally import Way
from cernvm.fs.reader.catalog import Catalog
from cernvm.fs.reader.pieces import pieces_of
from cernvm.fs.reader.tree import Tree

MAX_SURVEYED = 5000
MAX_REMEMBERED = 5_000
_LISTING_MASK = (1 << 62) - 1


class Surveyor:
    """Looks at directories; without `has_packs` as if no catalog named any. Concurrency: safe from any thread."""

    def __init__(self, *, has_packs: bool) -> None:
        self._has_packs = has_packs
        self._folders: OrderedDict[tuple[ref[Tree], bytes], Folder] = OrderedDict()
        self._stops = 0  # in all of them
        self._tables: WeakKeyDictionary[Catalog, PackTable | None] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def folder(self, tree: Tree, path: bytes) -> Folder | None:
        """A directory; None when its catalog must be fetched first or cannot be read, or it lists too much."""
        key = ref(tree), path
        with self._lock:
            if key in self._folders:
                self._folders.move_to_end(key)
                return self._folders[key]
        folder = self._look(tree, path)
        if folder is not None:
            with self._lock:
                self._folders[key] = folder
                self._stops += len(folder.stops)
                while self._stops > MAX_REMEMBERED:
                    self._stops -= len(self._folders.popitem(last=False)[1].stops)
        return folder

    def _look(self, tree: Tree, path: bytes) -> Folder | None:
        try:
            catalog = tree.try_folder(path)
            if catalog is None or catalog.has_more_children_than(MAX_SURVEYED, path):
                return None
            packs = self._packs(catalog)
            children = sorted(catalog.children(path), key=lambda entry: _place(path, entry))
            stops = [_stop(catalog, path, entry, packs) for entry in children]
            inside = catalog.prefix + path[len(catalog.mountpoint) :]
            return Folder(stops, () if packs is None else packs.of_directory(inside))
        except CvmError:
            return None

    def _packs(self, catalog: Catalog) -> PackTable | None:
        if not self._has_packs:
            return None
        with self._lock:
            if catalog not in self._tables:
                self._tables[catalog] = catalog.packs()
            return self._tables[catalog]


def _place(path: bytes, entry: Entry) -> tuple[int, bytes]:
    """Where an entry comes in the listing of its directory: `fs/vfs/listing.py` gives names in this order."""
    return path_key(path + b"/" + entry.name)[0] & _LISTING_MASK, entry.name


def _stop(catalog: Catalog, path: bytes, entry: Entry, packs: PackTable | None) -> Stop:
    child = path + b"/" + entry.name
    if entry.is_directory:
        nested = catalog.nested.get(child)
        below = () if nested is None else (Wanted.catalog(nested),)
        return Stop(entry.name, is_directory=True, wanted=below)
    has_content = entry.kind is EntryKind.FILE and entry.size > 0
    if not has_content or entry.is_external or (packs is not None and is_packed(entry)):
        return Stop(entry.name, is_directory=False, is_file=has_content)
    chunks = catalog.chunks(child) if entry.is_chunked else ()
    pieces = pieces_of(entry, chunks, path=child)
    wanted = tuple(Wanted.piece(Way.DIRECTORY, piece) for piece in pieces)
    return Stop(entry.name, is_directory=False, is_file=True, wanted=wanted)
