"""What of an upper folder is a change: much is copied there by the kernel only because something near it changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cernvm.core.errors import NotFoundError
from cernvm.fs.edit.upper import Seen, read_upper
from cernvm.fs.format.compress import Inflater
from cernvm.fs.format.entry import EntryKind, kind_of_mode
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.source import Found, changed, translate
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item
from cernvm.fs.survey.opened import Revision

_BLOCK_BYTES = 1 << 18


class DifferenceKind(Enum):
    """What happened to a path; values are what listings show."""

    CREATED = "created"
    CHANGED = "changed"
    METADATA = "metadata"  # mode, owner, time, attributes, links
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Difference:
    """A path that is not as it was: what stood there, and what stands there; one of them may be None.

    Shape: `keeps_content` for a file whose bytes are those of before.
    """

    path: bytes
    before: Item | None
    found: Found | None
    keeps_content: bool = False

    @property
    def kind(self) -> DifferenceKind:
        """What happened."""
        if self.found is None:
            return DifferenceKind.DELETED
        if self.before is None:
            return DifferenceKind.CREATED
        return DifferenceKind.METADATA if self.keeps_content else DifferenceKind.CHANGED

    @property
    def size_bytes(self) -> int:
        """Bytes of content that are new, or that are gone of a deleted file."""
        if self.found is not None:
            is_new = self.found.is_file and not self.keeps_content
            return self.found.status.st_size if is_new else 0
        item = self.before
        is_file = item is not None and item.entry.kind is EntryKind.FILE
        return item.entry.size if item is not None and is_file else 0


def compare(
    upper: Path, at: bytes, base: Revision, store: ObjectStore, *, is_claimed: bool
) -> Iterator[Difference]:
    """The differences that an upper folder makes to the revision below it, parents first.

    With `is_claimed` owners were shown as the user's, and say nothing. A deleted directory stands for all below it.
    Errors: as `walk`; those of the store.
    """
    for seen in read_upper(upper, at):
        before = base.find(seen.path)
        if seen.found is None:
            if before is not None:
                yield Difference(seen.path, before, None)
            continue
        yield from compare_one(seen.path, before, seen.found, store, is_claimed=is_claimed)
        if seen.is_whole and before is not None and before.entry.is_directory:
            yield from _hidden(seen, seen.found, base)


def compare_one(
    path: bytes, before: Item | None, found: Found, store: ObjectStore, *, is_claimed: bool
) -> Iterator[Difference]:
    """How what was written to one path differs from what stands there; nothing if it does not."""
    if before is None or before.entry.kind is not kind_of_mode(found.status.st_mode):
        yield Difference(path, before, found)
        return
    has_same_content = _is_same_content(before, found, store)
    was_linked = before.entry.kind is EntryKind.FILE and before.entry.hardlink_group != 0
    is_linked = found.is_file and found.status.st_nlink > 1
    if (
        has_same_content
        and not (was_linked or is_linked)
        and _is_same_metadata(before, found, is_claimed=is_claimed)
    ):
        return
    yield Difference(path, before, found, keeps_content=has_same_content)


def is_alike(before: Item, found: Found, store: ObjectStore, *, is_claimed: bool) -> bool:
    """Whether what was written to a path is what stands there, whatever other names the two have."""
    return (
        before.entry.kind is kind_of_mode(found.status.st_mode)
        and _is_same_content(before, found, store)
        and _is_same_metadata(before, found, is_claimed=is_claimed)
    )


def _hidden(seen: Seen, found: Found, base: Revision) -> Iterator[Difference]:
    """What stood in a folder that was made anew, and does not any more."""
    kept = set(os.listdir(found.place))  # noqa: PTH208  # names are bytes
    for item in base.listing(seen.path, base.holder(seen.path)):
        if item.entry.name not in kept:
            yield Difference(item.path, item, None)


def _is_same_metadata(before: Item, found: Found, *, is_claimed: bool) -> bool:
    entry, status = before.entry, found.status
    return (
        entry.mode == status.st_mode
        and entry.mtime_total_ns == status.st_mtime_ns
        and (is_claimed or (entry.uid, entry.gid) == (status.st_uid, status.st_gid))
        and dict(entry.xattrs) == dict(found.xattrs)
    )


def _is_same_content(before: Item, found: Found, store: ObjectStore) -> bool:
    """Whether what a path holds is what it held: bytes of a file, a target, a device's number."""
    entry = before.entry
    if entry.kind is EntryKind.SYMLINK:
        return entry.symlink == found.target
    if entry.kind is EntryKind.SPECIAL:
        return entry.rdev == (found.status.st_rdev if entry.is_device else 0)
    if entry.kind is not EntryKind.FILE:
        return True
    if entry.size != found.status.st_size:
        return False
    if entry.is_external:  # its content is not ours to look at
        return entry.mtime_total_ns == found.status.st_mtime_ns
    try:
        return _is_same_file(before, found, store)
    except NotFoundError:  # then it has to be stored once more
        return False


def _is_same_file(before: Item, found: Found, store: ObjectStore) -> bool:
    try:
        descriptor = os.open(found.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise translate(error, found.place) from error
    with os.fdopen(descriptor, "rb", buffering=_BLOCK_BYTES) as file:
        if os.fstat(descriptor).st_ino != found.status.st_ino:
            raise changed(found.place)
        is_same = all(file.read(len(part)) == part for part in _content(before, store))
        return is_same and not file.read(1)


def _content(item: Item, store: ObjectStore) -> Iterator[bytes]:
    """A file's bytes as the store has them, in parts."""
    entry = item.entry
    pieces = [(chunk.digest, ObjectKind.PARTIAL) for chunk in item.chunks]
    if not entry.is_chunked:
        pieces = [(entry.digest, ObjectKind.PLAIN)] if entry.digest is not None else []
    for digest, kind in pieces:
        inflater = Inflater(entry.compression, limit_bytes=entry.size)
        yield from inflater.feed(store.get(object_path(digest, kind)))
        inflater.finish()
