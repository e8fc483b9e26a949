"""Putting new catalogs where old ones stood: the chain of catalogs from the root down to a path.

A publication at `/` replaces everything and needs none of this; one at a path below changes the catalogs on the way to
it, and only those.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cernvm.core.digest import Digest
from cernvm.core.errors import CatalogFormatError, InvalidInputError
from cernvm.fs.format.entry import DIRECTORY_SIZE_BYTES, Entry, EntryFlag, NestedCatalog
from cernvm.fs.format.statistics import Counters
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Catalog, Item
from cernvm.fs.survey.reading import read_catalog

_MAX_DEPTH = 256


@dataclass(frozen=True, slots=True)
class Link:
    """A catalog on the way to a path, as it was published. Shape: `nested` is how its parent refers to it."""

    catalog: Catalog
    digest: Digest
    nested: NestedCatalog | None


@dataclass(frozen=True, slots=True)
class Gap:
    """The catalog that holds a path's parent, with everything at and below the path taken out.

    Shape: `items` may have new directories on the way to the path; `removed` counts what went with nested catalogs.
    """

    items: list[Item]
    nested: tuple[NestedCatalog, ...]
    removed: Counters


def open_chain(root: Digest, path: bytes, store: ObjectStore) -> list[Link]:
    """The catalogs from the root to the one that holds the parent of `path`."""
    links = [Link(read_catalog(root, store), root, None)]
    while (nested := _next(links[-1].catalog, path)) is not None:
        if len(links) > _MAX_DEPTH:
            raise CatalogFormatError("catalogs are nested too deep", where=repr(path[:80]))
        catalog = read_catalog(nested.digest, store)
        if catalog.properties.root_prefix != nested.path:
            raise CatalogFormatError("is of another path", where=f"catalog of {nested.path[:80]!r}")
        links.append(Link(catalog, nested.digest, nested))
    return links


def take_out(catalog: Catalog, path: bytes, *, like: Entry, store: ObjectStore) -> Gap:
    """The catalog without `path` and all below it, and with every directory that leads there.

    Shape: new directories take owner and time from `like`.
    """
    below = path + b"/"
    items = {
        item.path: item
        for item in catalog.items
        if item.path != path and not item.path.startswith(below)
    }
    _lead_to(items, path, catalog.properties.root_prefix, like)
    gone = [n for n in catalog.nested if n.path == path or n.path.startswith(below)]
    removed = Counters()
    for nested in gone:
        removed += read_catalog(nested.digest, store).statistics.total
    kept = tuple(nested for nested in catalog.nested if nested not in gone)
    return Gap(sorted(items.values(), key=lambda item: item.path), kept, removed)


def count_links(items: Sequence[Item], path: bytes) -> list[Item]:
    """The items with the right link counts for the directories above `path`."""
    above = {path[:at] for at in range(len(path)) if path[at : at + 1] == b"/"}
    subdirectories = dict.fromkeys(above, 0)
    for item in items:
        parent = item.path.rpartition(b"/")[0]
        if item.path and item.entry.is_directory and parent in subdirectories:
            subdirectories[parent] += 1
    return [
        replace(item, entry=replace(item.entry, link_count=2 + subdirectories[item.path]))
        if item.path in above
        else item
        for item in items
    ]


def _next(catalog: Catalog, path: bytes) -> NestedCatalog | None:
    """The nested catalog that the parent of `path` lies in, if it is not this one."""
    parent = path.rpartition(b"/")[0]
    for nested in catalog.nested:
        if parent == nested.path or parent.startswith(nested.path + b"/"):
            return nested
    return None


def _lead_to(items: dict[bytes, Item], path: bytes, prefix: bytes, like: Entry) -> None:
    parts = path.split(b"/")
    for depth in range(1, len(parts)):
        folder = b"/".join(parts[:depth])
        if len(folder) < len(prefix):
            continue
        if folder not in items:
            items[folder] = Item(folder, _directory(parts[depth - 1], like))
        elif not items[folder].entry.is_directory:
            shown = folder.decode("utf-8", "replace")
            raise InvalidInputError(f"{shown} is no directory", advice="choose another --at")


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
