"""A revision's tree, read path by path: which catalog a path lies in, and what stands there."""

from __future__ import annotations

from cernvm.core.errors import CatalogFormatError, InvalidInputError, NotFoundError
from cernvm.fs.format.catalog import PathKey, path_key
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.publish.draft.catalogs import DraftCatalog, Shelf
from cernvm.fs.publish.draft.faults import translated
from cernvm.fs.publish.draft.rows import DIRECTORY, FLAGS, HIDDEN, NAME, Row, Rows, item_of
from cernvm.fs.publish.profiles import Found
from cernvm.fs.survey.database import Item

MAX_DEPTH = 256  # of catalogs nested in each other
_MOST_FOLDERS = 4096


class Tree:
    """What a root catalog and those below it hold, as they stand on a shelf.

    Shape: paths are absolute within the repository, empty for its root. Concurrency: one thread.
    Errors: `NotFoundError` and `CatalogFormatError` where the store lost or damaged a catalog, `SpaceError`.
    """

    def __init__(self, shelf: Shelf, root: DraftCatalog) -> None:
        self.shelf = shelf
        self.root = root
        self._folders: dict[bytes, tuple[DraftCatalog, PathKey]] = {}

    def find(self, path: bytes) -> Item | None:
        """What stands at a path; None where there is nothing."""
        with translated():
            found = self.row(path)
            if found is None:
                return None
            rows, row = found
            return item_of(path, row, rows.chunks(row))

    def listing(self, path: bytes, *, with_hidden: bool = False) -> list[Item]:
        """What stands in a directory, in the order of names; hidden ones only on demand.

        Errors: `NotFoundError` where there is no such directory.
        """
        with translated():
            catalog, key = self.folder(path)
            rows = self.shelf.rows(catalog)
            return [
                item_of(path + b"/" + row[NAME], row, rows.chunks(row))
                for row in rows.children(key)
                if with_hidden or not row[FLAGS] & HIDDEN
            ]

    def stored_nested(self, path: bytes) -> NestedCatalog | None:
        """The nested catalog that is mounted at a path, if it is in the store as it stands here."""
        catalog = self.owner(path.rpartition(b"/")[0])
        known = catalog.loaded.get(path)
        return None if known is not None and known.is_touched else catalog.nested.get(path)

    def found(self, path: bytes) -> Found | None:
        """What stands at a path, and the nested catalogs on the way to it, as they are in the store."""
        item = self.find(path)
        if item is None:
            return None
        chain = []
        catalog = self.owner(path.rpartition(b"/")[0])
        while catalog.parent is not None:
            chain.append(catalog.parent.nested[catalog.prefix])
            catalog = catalog.parent
        return Found(item, tuple(reversed(chain)))

    def binds(self, path: bytes) -> list[NestedCatalog]:
        """The root catalogs that are shown by directories in a directory."""
        with translated():
            catalog, _ = self.folder(path)
            bound = self.shelf.rows(catalog).binds()
            return [one for one in bound if one.path.rpartition(b"/")[0] == path]

    # --- where a path lies

    def row(self, path: bytes) -> tuple[Rows, Row] | None:
        """The row of a path, in the catalog that lists its contents where it is a directory."""
        catalog = self.owner(path)
        rows = self.shelf.rows(catalog)
        row = rows.find(path_key(path))
        return None if row is None else (rows, row)

    def folder(self, path: bytes) -> tuple[DraftCatalog, PathKey]:
        """The catalog that lists a directory's contents, and the directory's key."""
        known = self._folders.get(path)
        if known is not None:
            return known
        catalog, key = self.owner(path), path_key(path)
        row = self.shelf.rows(catalog).find(key)
        shown = path.decode("utf-8", "replace") or "/"
        if row is None:
            raise NotFoundError("directory", shown)
        if not row[FLAGS] & DIRECTORY:
            raise InvalidInputError(f"{shown} is no directory")
        if len(self._folders) >= _MOST_FOLDERS:
            self.forget_folders()
        self._folders[path] = known = (catalog, key)
        return known

    def owner(self, path: bytes) -> DraftCatalog:
        """The deepest catalog on the way to a path, itself included."""
        catalog = self.root
        end = depth = 0
        while catalog.nested and end < len(path):
            slash = path.find(b"/", end + 1)
            end = len(path) if slash < 0 else slash
            nested = catalog.nested.get(path[:end])
            if nested is not None:
                depth += 1
                if depth > MAX_DEPTH:
                    raise CatalogFormatError("catalogs are nested too deep", where=repr(path[:80]))
                catalog = self.shelf.nested(catalog, nested)
        return catalog

    def forget_folders(self) -> None:
        """Look again in which catalogs directories lie."""
        self._folders.clear()
