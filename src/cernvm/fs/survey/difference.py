"""What differs between two revisions: paths with what stood there before and what stands there after.

Flow: `diff` compares directory by directory, name by name; a nested catalog that both revisions share is not opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from enum import Enum

from cernvm.core.digest import Digest
from cernvm.fs.format.entry import Entry, EntryFlag, EntryKind, NestedCatalog
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item
from cernvm.fs.survey.opened import Revision

# which catalog lists a directory is no property of the tree, and its links follow from what is in it
_ABOUT_CATALOGS = int(EntryFlag.NESTED_MOUNTPOINT | EntryFlag.NESTED_ROOT)


class ChangeKind(Enum):
    """What happened to a path; values are what listings show."""

    ADDED = "added"
    REMOVED = "removed"
    MODIFIED = "modified"  # other content, target, device or kind
    METADATA = "metadata"  # mode, owner, time, attributes, number of links


@dataclass(frozen=True, slots=True)
class Change:
    """A path that differs; at least one side is not None."""

    path: bytes
    before: Item | None
    after: Item | None

    @property
    def kind(self) -> ChangeKind:
        """What happened."""
        if self.before is None:
            return ChangeKind.ADDED
        if self.after is None:
            return ChangeKind.REMOVED
        return (
            ChangeKind.METADATA
            if _content(self.before) == _content(self.after)
            else ChangeKind.MODIFIED
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of content that the revision has more than before; less than 0 where it has fewer."""
        return _size(self.after) - _size(self.before)


@dataclass(slots=True)
class Totals:
    """Changes counted. Units: bytes of content of the files that came, and of those that went."""

    added: int = 0
    removed: int = 0
    modified: int = 0
    metadata: int = 0
    added_bytes: int = 0
    removed_bytes: int = 0

    def add(self, change: Change) -> None:
        """Count one more."""
        name = change.kind.value
        setattr(self, name, getattr(self, name) + 1)
        if change.kind is not ChangeKind.METADATA:
            self.added_bytes += _size(change.after)
            self.removed_bytes += _size(change.before)


def diff(
    old_root: Digest,
    new_root: Digest,
    store: ObjectStore,
    under: bytes = b"",
    *,
    old_store: ObjectStore | None = None,
    whole: bool = True,
) -> Iterator[Change]:
    """The differences at and below the directory `under`, depth first, a directory before what is in it.

    What was below a directory that is gone, or is none any more, precedes it; unless `whole`, it is left out: such a
    change then stands for the subtree. A directory's size and link count do not make a difference.
    Errors: those of `open_catalog`. Memory: a few catalogs, and the listings on the way to one path.
    """
    with ExitStack() as stack:
        before = stack.enter_context(closing(Revision(old_store or store, old_root)))
        after = stack.enter_context(closing(Revision(store, new_root)))
        if old_root != new_root:
            yield from _Comparison(before, after, whole=whole).at(under)


@dataclass(frozen=True, slots=True)
class _Side:
    """A directory of one revision; `item` None where it has none there."""

    revision: Revision
    item: Item | None
    holder: NestedCatalog | None

    @property
    def is_directory(self) -> bool:
        return self.item is not None and self.item.entry.is_directory


@dataclass(frozen=True, slots=True)
class _Comparison:
    before: Revision
    after: Revision
    whole: bool

    def at(self, path: bytes) -> Iterator[Change]:
        yield from self._compare(path, _side(self.before, path), _side(self.after, path))

    def _compare(self, path: bytes, old: _Side, new: _Side) -> Iterator[Change]:
        if (
            old.is_directory
            and new.is_directory
            and old.holder == new.holder
            and _is_nested(old, path)
        ):
            return  # the same catalog; the mountpoints' rows repeat its root's
        change = Change(path, old.item, new.item)
        goes = old.is_directory and not new.is_directory
        if goes and self.whole:
            yield from self._below(path, old, _Side(new.revision, None, None))
        if _differ(old.item, new.item):
            yield change
        if new.is_directory:
            yield from self._below(path, old, new)

    def _below(self, path: bytes, old: _Side, new: _Side) -> Iterator[Change]:
        olds = _listing(path, old)
        news = _listing(path, new)
        for name in sorted(olds.keys() | news.keys()):
            below = path + b"/" + name
            yield from self._compare(
                below, _child(old, below, olds.get(name)), _child(new, below, news.get(name))
            )


def _side(revision: Revision, path: bytes) -> _Side:
    item = revision.find(path)
    return _Side(revision, item, None if item is None else revision.holder(path))


def _child(parent: _Side, path: bytes, item: Item | None) -> _Side:
    if item is None or parent.holder is None:
        return _Side(parent.revision, None, None)
    if not item.entry.is_nested_mountpoint:
        return _Side(parent.revision, item, parent.holder)
    return _Side(parent.revision, item, parent.revision.below(path, parent.holder))


def _listing(path: bytes, side: _Side) -> dict[bytes, Item]:
    if not side.is_directory or side.holder is None:
        return {}
    return {item.entry.name: item for item in side.revision.listing(path, side.holder)}


def _is_nested(side: _Side, path: bytes) -> bool:
    return side.holder is not None and side.holder.path == path


def _differ(old: Item | None, new: Item | None) -> bool:
    if old is None or new is None:
        return old is not new
    return (_plain(old.entry), old.chunks) != (_plain(new.entry), new.chunks)


def _plain(entry: Entry) -> Entry:
    """The entry without what depends on the catalog that lists it."""
    flags, mtime_ns = entry.flags & ~_ABOUT_CATALOGS, entry.mtime_ns or 0
    if entry.is_directory:
        return replace(entry, flags=flags, mtime_ns=mtime_ns, size=0, link_count=0)
    return replace(entry, mtime_ns=mtime_ns, hardlink_group=int(entry.hardlink_group > 0))


def _content(item: Item) -> tuple[object, ...]:
    entry = item.entry
    if entry.kind is EntryKind.DIRECTORY:
        return (entry.kind,)
    if entry.kind is not EntryKind.FILE:
        return (entry.kind, entry.mode & 0o170000, entry.rdev, entry.symlink)
    return (entry.kind, entry.size, entry.digest, entry.is_external, item.chunks)


def _size(item: Item | None) -> int:
    return item.entry.size if item is not None and item.entry.kind is EntryKind.FILE else 0
