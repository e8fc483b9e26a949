"""From the source tree to items: attributes become entries, content becomes objects, hard links become groups."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import (
    DIRECTORY_SIZE_BYTES,
    Entry,
    EntryFlag,
    EntryKind,
    kind_of_mode,
)
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.content import Content, ContentWriter, Progress
from cernvm.fs.publish.index import Index
from cernvm.fs.publish.plan import link_counts
from cernvm.fs.publish.source import Found, walk
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns every published path, whatever the source says: needed for trees that were made in a user namespace."""

    uid: int
    gid: int


def scan(
    tree: Path,
    *,
    at: bytes,
    store: ObjectStore,
    writer: ContentWriter,
    index: Index,
    compression: Compression,
    owner: Owner | None,
    progress: Progress,
) -> list[Item]:
    """All paths of the tree as they will stand below `at`, in path order, parents first; their content is stored."""
    _check_apart(tree, store)
    items: list[Item] = []
    links: dict[tuple[int, int, bytes], list[int]] = {}

    for found in walk(tree):
        entry = _entry(found, name=_name(found, at), owner=owner, compression=compression)
        position = len(items)
        items.append(Item(at + found.path, entry))
        if not found.is_file:
            continue
        if found.status.st_nlink > 1:
            folder = found.path.rpartition(b"/")[0]
            links.setdefault((found.status.st_dev, found.status.st_ino, folder), []).append(
                position
            )
        fill = _filler(items, position, index)
        known = index.file(found.status)
        if known is not None and _is_stored(known, store):
            progress.add_file(known)
            fill(found.status, known)
        else:
            writer.add(found, fill)
    writer.finish()
    return _linked(items, list(links.values()))


def _entry(found: Found, *, name: bytes, owner: Owner | None, compression: Compression) -> Entry:
    status = found.status
    kind = kind_of_mode(status.st_mode)
    if kind is None:
        raise InvalidInputError(
            f"{os.fsdecode(found.place)!r} is of a kind that no repository holds"
        )
    seconds, part_ns = divmod(status.st_mtime_ns, 10**9)
    return Entry(
        name=name,
        mode=status.st_mode,
        size=_size(found, kind),
        mtime_s=seconds,
        mtime_ns=part_ns,
        uid=status.st_uid if owner is None else owner.uid,
        gid=status.st_gid if owner is None else owner.gid,
        flags=int(kind.value),
        compression=compression if kind is EntryKind.FILE else Compression.ZLIB,
        symlink=found.target,
        xattrs=found.xattrs,
    )


def _size(found: Found, kind: EntryKind) -> int:
    if kind is EntryKind.DIRECTORY:
        return DIRECTORY_SIZE_BYTES
    if kind is EntryKind.SYMLINK:
        return len(found.target)
    if kind is EntryKind.SPECIAL:
        mode = found.status.st_mode
        return found.status.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0
    return found.status.st_size


def _filler(
    items: list[Item], position: int, index: Index
) -> Callable[[os.stat_result, Content], None]:
    """What puts a file's content into its item once it is stored."""

    def fill(status: os.stat_result, content: Content) -> None:
        item = items[position]
        flags = item.entry.flags | (EntryFlag.CHUNKED if content.chunks else 0)
        entry = replace(item.entry, size=content.size, digest=content.digest, flags=flags)
        items[position] = Item(item.path, entry, content.chunks)
        index.remember_file(status, content)

    return fill


def _is_stored(content: Content, store: ObjectStore) -> bool:
    if content.digest is not None:
        return store.has(object_path(content.digest, ObjectKind.PLAIN))
    return all(store.has(object_path(c.digest, ObjectKind.PARTIAL)) for c in content.chunks)


def _linked(items: list[Item], groups: list[list[int]]) -> list[Item]:
    """The items with the link counts of directories, and of files that are one file under several names."""
    numbers = count(1)
    for group in groups:
        if len(group) > 1:
            number = next(numbers)
            for position in group:
                entry = items[position].entry
                linked = replace(entry, hardlink_group=number, link_count=len(group))
                items[position] = replace(items[position], entry=linked)
    counts = link_counts(items)
    return [
        replace(item, entry=replace(item.entry, link_count=counts[item.path]))
        if item.entry.is_directory
        else item
        for item in items
    ]


def _name(found: Found, at: bytes) -> bytes:
    return (found.path or at).rpartition(b"/")[2]


def _check_apart(tree: Path, store: ObjectStore) -> None:
    """Refuse a tree that holds the store: it would grow while it is read."""
    folder = getattr(store, "folder", None)
    if folder is None:
        return
    with suppress(OSError):
        if Path(folder).resolve().is_relative_to(tree.resolve(strict=True)):
            raise InvalidInputError(
                f"the tree {tree} holds the repository's own storage {folder}",
                advice="publish a folder beside it",
            )
