"""Copies of subtrees: rows only, no content is read.

Nested catalogs that keep their path are kept as they are; elsewhere their rows have other keys, and are made anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Protocol

from cernvm.core.errors import NotFoundError
from cernvm.fs.format.entry import EntryFlag, NestedCatalog
from cernvm.fs.survey.database import Item


class Source(Protocol):
    """The tree that is copied from."""

    def find(self, path: bytes) -> Item | None: ...
    def listing(self, path: bytes, *, with_hidden: bool = False) -> list[Item]: ...
    def stored_nested(self, path: bytes) -> NestedCatalog | None: ...


class Target(Protocol):
    """The tree that is copied to."""

    def put(self, item: Item) -> None: ...
    def put_linked(self, items: list[Item]) -> None: ...
    def put_nested(self, nested: NestedCatalog) -> None: ...
    def listing(self, path: bytes, *, with_hidden: bool = False) -> list[Item]: ...
    def remove(self, path: bytes) -> None: ...


def copy_tree(source: Source, path: bytes, target: Target, at: bytes) -> None:
    """Have what stands at and below `path` stand at `at`, and nothing else but what is hidden."""
    top = source.find(path)
    if top is None:
        raise NotFoundError("path", path.decode("utf-8", "replace") or "/")
    waiting = [top]
    while waiting:
        item = waiting.pop()
        nested = source.stored_nested(item.path) if path == at and item.path else None
        if nested is not None:
            target.put_nested(nested)
            continue
        moved = _moved(item, path, at)
        target.put(moved)
        if item.entry.is_directory:
            files, linked, folders = _parted(source.listing(item.path))
            names = {one.entry.name for one in (*files, *chain(*linked), *folders)}
            for one in target.listing(moved.path):
                if one.entry.name not in names:
                    target.remove(one.path)
            for one in files:
                target.put(_moved(one, path, at))
            for group in linked:
                target.put_linked([_moved(one, path, at) for one in group])
            waiting += reversed(folders)


def _parted(items: Iterable[Item]) -> tuple[list[Item], list[list[Item]], list[Item]]:
    """Single names, groups of linked ones, and directories."""
    files: list[Item] = []
    folders: list[Item] = []
    groups: dict[int, list[Item]] = {}
    for item in items:
        if item.entry.flags & EntryFlag.BIND_MOUNTPOINT:
            continue  # it is the tree of another revision, and belongs to its place
        if item.entry.is_directory:
            folders.append(item)
        elif item.entry.hardlink_group:
            groups.setdefault(item.entry.hardlink_group, []).append(item)
        else:
            files.append(item)
    return files, list(groups.values()), folders


def _moved(item: Item, path: bytes, at: bytes) -> Item:
    moved = at + item.path[len(path) :]
    name = moved.rpartition(b"/")[2]
    entry = item.entry if name == item.entry.name else replace(item.entry, name=name)
    return Item(moved, entry, item.chunks)
