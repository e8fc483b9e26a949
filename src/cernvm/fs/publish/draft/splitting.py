"""Moving a directory's rows into a catalog of their own, and back."""

from __future__ import annotations

from cernvm.core.digest import Algorithm, Digest
from cernvm.fs.format.catalog import path_key
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.publish.draft.catalogs import DraftCatalog, Shelf
from cernvm.fs.publish.draft.rows import COLUMNS, FOLDERS, GROUP_SHIFT, MOUNTPOINT, ROOT

_NOWHERE = Digest(Algorithm.SHA1, bytes(20))  # stands for a catalog that was not written yet
_MOVING = "temp.moving"
_CHUNKS = "md5path_1, md5path_2, offset, size, hash"


class Splitter:
    """Splits and merges the catalogs of a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def split(self, catalog: DraftCatalog, folder: bytes) -> DraftCatalog:
        """Move a directory of a catalog into a nested one."""
        made = self._shelf.create(folder, catalog)
        below = folder + b"/"
        for path in [path for path in catalog.nested if path.startswith(below)]:
            total = self._shelf.nested(catalog, catalog.nested[path]).counted
            made.gained += total
            catalog.gained -= total
            made.nested[path] = catalog.nested.pop(path)
            moved = made.loaded[path] = catalog.loaded.pop(path)
            moved.parent = made
        catalog.nested[folder] = NestedCatalog(folder, _NOWHERE, 0)
        catalog.loaded[folder] = made
        self._move_rows(catalog, made, folder)
        catalog.touch()
        return made

    def merge(self, catalog: DraftCatalog) -> DraftCatalog:
        """Move all rows of a nested catalog into its parent, and forget it; returns the parent."""
        parent = catalog.parent
        assert parent is not None
        rows = self._shelf.rows(catalog)
        parent.gained += rows.statistics().subtree + catalog.gained - catalog.counted
        del parent.nested[catalog.prefix], parent.loaded[catalog.prefix]
        parent.nested |= catalog.nested
        for path, nested in catalog.loaded.items():
            parent.loaded[path] = nested
            nested.parent = parent
        self._move_back(catalog, parent)
        self._shelf.discard(catalog)
        parent.touch()
        return parent

    def _move_rows(self, catalog: DraftCatalog, made: DraftCatalog, folder: bytes) -> None:
        self._shelf.let_go(made)
        database = self._shelf.rows(catalog).database
        database.execute("COMMIT")
        database.execute("ATTACH ? AS made", (str(made.path),))
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            database.execute(f"PRAGMA made.{pragma}")
        database.execute("BEGIN")
        key = path_key(folder)
        database.execute("CREATE TEMP TABLE moving (row INTEGER PRIMARY KEY)")
        database.execute(
            f"INSERT INTO {_MOVING} {FOLDERS} SELECT c.rowid FROM folders f"  # noqa: S608
            " CROSS JOIN main.catalog c INDEXED BY idx_catalog_parent ON c.parent_1 = f.a AND c.parent_2 = f.b",
            key,
        )
        is_it = "md5path_1 = ? AND md5path_2 = ?"
        database.execute(
            f"INSERT INTO made.catalog ({COLUMNS}) SELECT {COLUMNS} FROM main.catalog WHERE {is_it}",  # noqa: S608
            key,
        )
        database.execute(f"UPDATE made.catalog SET flags = flags | {ROOT}")  # noqa: S608
        database.execute(
            f"UPDATE main.catalog SET flags = flags | {MOUNTPOINT} WHERE {is_it}",  # noqa: S608
            key,
        )
        moving = f"rowid IN (SELECT row FROM {_MOVING})"  # noqa: S608
        owned = f"(SELECT md5path_1, md5path_2 FROM main.catalog WHERE flags & 64 AND {moving})"  # noqa: S608
        database.execute(
            f"INSERT INTO made.catalog ({COLUMNS}) SELECT {COLUMNS} FROM main.catalog WHERE {moving}"  # noqa: S608
        )
        database.execute(
            f"INSERT INTO made.chunks ({_CHUNKS}) SELECT {_CHUNKS} FROM main.chunks"  # noqa: S608
            f" WHERE (md5path_1, md5path_2) IN {owned}"
        )
        database.execute(f"DELETE FROM main.chunks WHERE (md5path_1, md5path_2) IN {owned}")  # noqa: S608
        database.execute(f"DELETE FROM main.catalog WHERE {moving}")  # noqa: S608
        binds = "path >= CAST(? AS TEXT) AND path < CAST(? AS TEXT)"
        span = (folder + b"/", folder + b"0")
        database.execute(
            f"INSERT INTO made.bind_mountpoints SELECT * FROM main.bind_mountpoints WHERE {binds}",  # noqa: S608
            span,
        )
        database.execute(f"DELETE FROM main.bind_mountpoints WHERE {binds}", span)  # noqa: S608
        database.execute("DROP TABLE temp.moving")
        database.execute("COMMIT")
        database.execute("DETACH made")
        database.execute("BEGIN")

    def _move_back(self, catalog: DraftCatalog, parent: DraftCatalog) -> None:
        self._shelf.let_go(catalog)
        rows = self._shelf.rows(parent)
        database, offset = rows.database, rows.last_group() << GROUP_SHIFT
        database.execute("COMMIT")
        database.execute("ATTACH ? AS gone", (str(catalog.path),))
        database.execute("BEGIN")
        key = path_key(catalog.prefix)
        columns = COLUMNS.replace(
            "hardlinks", f"CASE WHEN hardlinks >> 32 THEN hardlinks + {offset} ELSE hardlinks END"
        )
        database.execute(
            f"INSERT INTO main.catalog ({COLUMNS}) SELECT {columns} FROM gone.catalog"  # noqa: S608
            " WHERE NOT (md5path_1 = ? AND md5path_2 = ?)",
            key,
        )
        database.execute(
            f"INSERT INTO main.chunks ({_CHUNKS}) SELECT {_CHUNKS} FROM gone.chunks"  # noqa: S608
        )
        database.execute(
            "INSERT INTO main.bind_mountpoints (path, sha1, size) SELECT path, sha1, size FROM gone.bind_mountpoints"
        )
        database.execute(
            f"UPDATE main.catalog SET flags = flags & ~{MOUNTPOINT} WHERE md5path_1 = ? AND md5path_2 = ?",  # noqa: S608
            key,
        )
        database.execute("COMMIT")
        database.execute("DETACH gone")
        database.execute("BEGIN")
