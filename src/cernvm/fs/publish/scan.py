"""A source tree against the draft, directory by directory: what differs is put into the draft, the rest is left alone.

Content of files that the index does not know is given to the writer; it gets into the draft when it is stored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.catalog import AUTOCATALOG_MARKER, CATALOG_MARKER
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import (
    NO_XATTRS,
    Entry,
)
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.content import Content, ContentWriter, Progress, Recipe
from cernvm.fs.publish.dirtab import DIRTAB_PATH, NO_RULES, Dirtab, name_expression, parse_dirtab
from cernvm.fs.publish.dirtab import MAX_BYTES as DIRTAB_BYTES
from cernvm.fs.publish.draft import Draft
from cernvm.fs.publish.entries import NO_CONTENT, Owner, entry_of
from cernvm.fs.publish.grafts import GRAFT_PREFIX, MAX_BYTES, Graft, parse_graft
from cernvm.fs.publish.index import Index, KnownFile
from cernvm.fs.publish.limiting import MOST_FILE_BYTES
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.settings import Settings
from cernvm.fs.publish.source import Folder, Found, read_small, walk_folders
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item


@dataclass(slots=True)
class TreeScan:
    """Has a draft hold at `at` what a source tree holds.

    Shape: `apart` are the devices and inodes that may not be in the tree; where `is_thorough`, every file is read,
    and stored again where the store lost it.
    """

    draft: Draft
    writer: ContentWriter
    index: Index
    store: ObjectStore
    settings: Settings
    progress: Progress
    at: bytes = b""
    owner: Owner | None = None
    dirtab: Dirtab = NO_RULES
    apart: Container[tuple[int, int]] = ()
    is_thorough: bool = False
    _plain: re.Pattern[bytes] | None = field(init=False, default=None)
    _plain_recipe: Recipe = field(init=False, default_factory=Recipe)

    def __post_init__(self) -> None:
        patterns = os.fsencode(self.settings.plain_names).split()
        if patterns:
            self._plain = re.compile(b"|".join(map(name_expression, patterns)), re.DOTALL)
            self._plain_recipe = replace(self.writer.recipe, compression=Compression.NONE)

    def scan(self, tree: Path) -> None:
        """Compare and change; what is read may get into the draft as late as the writer's `finish`."""
        for folder in walk_folders(tree, apart=self.apart):
            self._put_folder(folder.found)
            self._compare(folder)

    def _put_folder(self, found: Found) -> None:
        xattrs = found.xattrs if self.settings.xattrs else NO_XATTRS
        entry = self._entry(found, xattrs, NO_CONTENT)
        if self.at and not found.path:
            self.draft.ensure_folders(self.at.rpartition(b"/")[0], entry)
        self.draft.put(Item(self.at + found.path, entry))

    def _compare(self, folder: Folder) -> None:
        path = self.at + folder.found.path
        standing = {item.entry.name: item for item in self.draft.listing(path)}
        children = {child.name: child for child in folder.children}
        grafts = self._grafts(children)
        for name, item in standing.items():
            if name not in children and not self._is_ours(name, path, standing, children):
                self.draft.remove(item.path)
        linked: dict[tuple[int, int], list[Found]] = {}
        for name, child in children.items():
            old = standing.get(name)
            if name in grafts:
                self._put_grafted(child, grafts[name])
            elif not child.is_file:
                self._put_attributes(folder, child, old)
            elif child.status.st_nlink > 1:
                linked.setdefault((child.status.st_dev, child.status.st_ino), []).append(child)
            else:
                self._put_file(folder, [child], old)
        for group in linked.values():
            self._put_file(folder, group, standing.get(group[0].name) if len(group) == 1 else None)

    def _is_ours(
        self,
        name: bytes,
        path: bytes,
        standing: Mapping[bytes, Item],
        children: Mapping[bytes, Found],
    ) -> bool:
        """Whether a file that the tree lacks marks a catalog that was not made by the tree's owner."""
        if name not in (CATALOG_MARKER, AUTOCATALOG_MARKER) or CATALOG_MARKER in children:
            return False
        return AUTOCATALOG_MARKER in standing or self.dirtab.is_matching(path)

    # --- all but files

    def _put_attributes(self, folder: Folder, found: Found, old: Item | None) -> None:
        if found.is_directory and old is not None and old.entry.is_directory:
            return  # its own attributes are put when it is walked into
        xattrs = NO_XATTRS if found.is_directory else self._xattrs(folder, found)
        entry = self._entry(found, xattrs, NO_CONTENT)
        self.draft.put(Item(self.at + found.path, entry))

    def _entry(
        self,
        found: Found,
        xattrs: Mapping[bytes, bytes],
        content: Content,
        compression: Compression = Compression.ZLIB,
    ) -> Entry:
        return entry_of(
            found,
            name=found.name or self.at.rpartition(b"/")[2],
            content=content,
            xattrs=xattrs,
            owner=self.owner,
            settings=self.settings,
            compression=compression,
        )

    def _xattrs(self, folder: Folder, found: Found) -> Mapping[bytes, bytes]:
        return folder.attributes_of(found) if self.settings.xattrs else NO_XATTRS

    # --- files

    def _put_file(self, folder: Folder, names: Sequence[Found], old: Item | None) -> None:
        """One file, under all its names in a directory; `old` is what stands at its only name."""
        found = names[0]
        if self.settings.limits and found.status.st_size > MOST_FILE_BYTES:
            raise InvalidInputError(
                f"{os.fsdecode(found.place)!r} is larger than {MOST_FILE_BYTES} bytes",
                advice="set limits=false if all readers bear it",
            )
        recipe = self._recipe_of(found)
        known = None if self.is_thorough else self.index.file(found.status)
        if known is not None and known.compression is recipe.compression:
            if old is not None and self._stands(old, found, known):
                self._count(known.content, names)
                return
            if self._is_stored(known.content, old):
                self._count(known.content, names)
                self._put_names(names, known)
                return
        xattrs = self._xattrs(folder, found)

        def done(_status: os.stat_result | None, content: Content) -> None:
            stored = KnownFile(content, recipe.compression, xattrs)
            self._put_names(names, stored)
            self.index.remember_file(found.status, stored)
            self._count(content, names[1:])

        self.writer.add(found, done, recipe=recipe)

    def _recipe_of(self, found: Found) -> Recipe:
        """How a file is stored: all in one way, but those whose names say that they are packed already."""
        recipe = self.writer.recipe
        if self._plain is None or not self._plain.fullmatch(found.name):
            return recipe
        return self._plain_recipe

    def _put_names(self, names: Sequence[Found], known: KnownFile) -> None:
        content = known.content
        xattrs = known.xattrs if self.settings.xattrs else NO_XATTRS
        items = [
            Item(
                self.at + one.path,
                self._entry(one, xattrs, content, known.compression),
                content.chunks,
            )
            for one in names
        ]
        if len(items) == 1:
            self.draft.put(items[0])
        else:
            self.draft.put_linked(items)

    def _stands(self, old: Item, found: Found, known: KnownFile) -> bool:
        """Whether a name's entry is what it would be made: the common case, so no entry is made to see it."""
        entry, status, owner = old.entry, found.status, self.owner
        seconds, part_ns = divmod(status.st_mtime_ns, 10**9)
        return (
            entry.digest == known.content.digest
            and entry.mode == status.st_mode
            and entry.size == status.st_size
            and entry.mtime_s == seconds
            and entry.mtime_ns == (part_ns if self.settings.mtime_ns else None)
            and entry.uid == (status.st_uid if owner is None else owner.uid)
            and entry.gid == (status.st_gid if owner is None else owner.gid)
            and entry.hardlink_group == 0
            and entry.is_external == self.settings.external
            and entry.compression is known.compression
            and old.chunks == known.content.chunks
            and entry.xattrs == (known.xattrs if self.settings.xattrs else NO_XATTRS)
        )

    def _is_stored(self, content: Content, old: Item | None) -> bool:
        """Whether the store has what the index says; what the last revision refers to is there."""
        if self.settings.external:
            return True
        if old is not None and (content.digest, content.chunks) == (old.entry.digest, old.chunks):
            return True
        whole = content.digest is None or self.store.has(
            object_path(content.digest, ObjectKind.PLAIN)
        )
        return whole and all(
            self.store.has(object_path(chunk.digest, ObjectKind.PARTIAL))
            for chunk in content.chunks
        )

    def _count(self, content: Content, names: Sequence[Found]) -> None:
        for _ in names:
            self.progress.add_file(content)

    # --- grafts

    def _grafts(self, children: dict[bytes, Found]) -> dict[bytes, Graft]:
        """The grafts of a directory by the names that they are for; their own files are not published."""
        found: dict[bytes, Graft] = {}
        for name in [name for name in children if name.startswith(GRAFT_PREFIX)]:
            marker, target = children.pop(name), children.get(name[len(GRAFT_PREFIX) :])
            where = os.fsdecode(marker.place)
            if not marker.is_file or target is None or not target.is_file or target.status.st_size:
                raise InvalidInputError(
                    f"{where!r} is for no empty file beside it",
                    advice="make both with: cvm repo graft",
                )
            data = read_small(marker, MAX_BYTES)
            found[target.name] = parse_graft(data, where=where)
        return found

    def _put_grafted(self, found: Found, graft: Graft) -> None:
        content = Content(graft.size, None if graft.chunks else graft.digest, graft.chunks)
        entry = self._entry(found, NO_XATTRS, content)
        entry.size = graft.size
        entry.compression = (
            self.writer.recipe.compression if graft.compression is None else graft.compression
        )
        self.progress.add_file(NO_CONTENT)
        self.draft.put(Item(self.at + found.path, entry, graft.chunks))


def read_tree_dirtab(tree: Path) -> Dirtab:
    """The rules that a whole repository's source tree brings along."""
    place = os.fsencode(tree) + DIRTAB_PATH
    try:
        found = Found(DIRTAB_PATH, place, os.lstat(place))
    except OSError:
        return Dirtab()
    return parse_dirtab(read_small(found, DIRTAB_BYTES)) if found.is_file else Dirtab()


def identities_apart(repository: Repository, store: ObjectStore) -> frozenset[tuple[int, int]]:
    """Devices and inodes that no tree may hold: the store, which would grow while it is read, and secret keys."""
    found = set()
    for place in (
        *repository.keys.secrets,
        *([Path(store.location)] if "://" not in store.location else []),
    ):
        with suppress(OSError):
            status = place.stat()
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)
