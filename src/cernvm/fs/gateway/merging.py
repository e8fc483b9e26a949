"""Merging: what a publisher changed below its lease, put into the revision that stands by now.

Three revisions meet: the one that the publisher began with, the one that it made, and the last one. What differs
between the first two, below the lease, is put into the third; nothing else of what was sent is looked at. The
publisher's catalogs are read with suspicion, and every object that a new entry names must have arrived.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice

from cernvm.core.digest import Digest
from cernvm.core.errors import ConflictError, FormatError, InvalidInputError, NotFoundError
from cernvm.fs.format.entry import EntryFlag, EntryKind
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.gateway.lease import is_below
from cernvm.fs.gateway.payload import missing_objects
from cernvm.fs.publish.draft import Draft
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item
from cernvm.fs.survey.difference import Change, diff
from cernvm.fs.survey.opened import Revision, open_catalog

_CHECKED_AT_ONCE = 500
_OWN = b"/.cvmfs"  # the repository's own folder: its publishers do not write it
# what follows from the catalogs, and what only the repository's own folder has
_NOT_THEIRS = int(
    EntryFlag.NESTED_MOUNTPOINT
    | EntryFlag.NESTED_ROOT
    | EntryFlag.BIND_MOUNTPOINT
    | EntryFlag.HIDDEN
)


@dataclass(slots=True)
class Merge:
    """The changes between two roots below `top`, to be put into a draft. `changes` are those that were, so far."""

    old_root: Digest
    new_root: Digest
    top: bytes
    store: ObjectStore
    changes: int = 0
    _linked: dict[tuple[bytes, int], list[Item]] = field(default_factory=dict)

    def put_into(self, draft: Draft) -> None:
        """Make the changes.

        Errors: `ConflictError` where the last revision has no place for them any more or the old root is gone;
        `InvalidInputError` for objects that were not sent; `FormatError` for catalogs that are none.
        """
        try:
            found = self._changes()
            while changes := list(islice(found, _CHECKED_AT_ONCE)):
                self._check_objects(changes)
                for change in changes:
                    self._put(change, draft)
            for items in self._linked.values():
                draft.put_linked(items)
        except NotFoundError as error:
            raise ConflictError(
                f"what was published does not fit the last revision: {error}",
                advice="publish again, upon the last revision",
            ) from error

    def _changes(self) -> Iterator[Change]:
        for change in diff(self.old_root, self.new_root, self.store, self.top, whole=False):
            if not is_below(change.path, self.top):
                raise FormatError(f"lists {change.path!r}, which lies elsewhere", where="catalog")
            if not is_below(change.path, _OWN):
                yield change

    def _put(self, change: Change, draft: Draft) -> None:
        if not self.changes and self.top:
            self._make_way(draft)
        self.changes += 1
        item = change.after
        if item is None:
            if change.path == b"":
                raise FormatError("has no root", where="catalog")
            if draft.find(change.path) is not None:
                draft.remove(change.path)
            return
        entry = item.entry
        if int(entry.flags) & _NOT_THEIRS:
            flags = EntryFlag(int(entry.flags) & ~_NOT_THEIRS)
            item = replace(item, entry=replace(entry, flags=flags))
        if entry.hardlink_group:
            parent = change.path.rpartition(b"/")[0]
            self._linked.setdefault((parent, entry.hardlink_group), []).append(item)
            return
        draft.put(item)

    def _make_way(self, draft: Draft) -> None:
        """The folders above the lease, as the publisher has them where they are missing."""
        parent = self.top.rpartition(b"/")[0]
        if not parent or draft.find(parent) is not None:
            return
        with closing(Revision(self.store, self.new_root)) as revision:
            like = revision.find(parent)
        if like is None or not like.entry.is_directory:
            raise FormatError("has no folder above the lease", where="catalog")
        draft.ensure_folders(parent, like.entry)

    def _check_objects(self, changes: Sequence[Change]) -> None:
        wanted = {
            path: change.path
            for change in changes
            if change.after is not None
            for path in _object_paths(change.after)
        }
        for path in missing_objects(list(wanted), self.store)[:1]:
            raise InvalidInputError(
                f"the object of {wanted[path].decode('utf-8', 'replace')} was never sent: {path}",
                advice="publish again",
            )


def true_base(new_root: Digest, store: ObjectStore) -> Digest | None:
    """The root that a publisher's root says it was made of; None where it does not, or that one is gone.

    The original names the root that it finds at the end instead, which others may have moved on meanwhile: what they
    did below the lease before it was given would be undone.
    """
    base = open_catalog(store, new_root).properties.previous
    if base is None or not store.has(object_path(base, ObjectKind.CATALOG)):
        return None
    return base


def _object_paths(item: Item) -> Iterator[str]:
    entry = item.entry
    if entry.kind is not EntryKind.FILE or entry.is_external:
        return
    _check_chunks(item)
    if entry.digest is not None:
        yield object_path(entry.digest, ObjectKind.PLAIN)
    for chunk in item.chunks:
        yield object_path(chunk.digest, ObjectKind.PARTIAL)


def _check_chunks(item: Item) -> None:
    """Chunks lie one behind the other and are the file."""
    end = 0
    for chunk in item.chunks:
        if chunk.offset != end or chunk.size <= 0:
            raise FormatError(f"has a gap in the chunks of {item.path!r}", where="catalog")
        end += chunk.size
    if (item.chunks and end != item.entry.size) or (not item.chunks and item.entry.digest is None):
        raise FormatError(f"does not say where the content of {item.path!r} is", where="catalog")
