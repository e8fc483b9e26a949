"""The hidden folder in which a revision shows those of its tags: `/.cvmfs/snapshots/TAG`.

Source: docs/formats/repository.md, "Snapshots".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from cernvm.fs.format.catalog import CATALOG_MARKER
from cernvm.fs.format.entry import (
    DIRECTORY_SIZE_BYTES,
    MAX_NAME_BYTES,
    Entry,
    EntryFlag,
    NestedCatalog,
)
from cernvm.fs.format.history import TRUNK, TRUNK_PREVIOUS, Tag
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.draft import Draft
from cernvm.fs.publish.draft.markers import marker_entry
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item
from cernvm.fs.survey.reading import read_tags

FOLDER = b"/.cvmfs"
SNAPSHOTS = FOLDER + b"/snapshots"


def keep_snapshots(
    draft: Draft,
    store: ObjectStore,
    last: Manifest,
    are_shown: bool | None,
    *,
    is_new: bool,
    now: datetime,
) -> None:
    """Have the draft show the tags that the last revision knows, or none, if `are_shown` says so.

    Shape: `is_new` where there will be a revision in any case; another tag alone is no reason for one.
    """
    if are_shown is None:
        return
    if not are_shown:
        hide_snapshots(draft)
    elif is_new or draft.find(SNAPSHOTS) is None:
        show_snapshots(draft, store, read_tags(last, store), now=now)


def show_snapshots(draft: Draft, store: ObjectStore, tags: Sequence[Tag], *, now: datetime) -> None:
    """Have the draft show the revisions of these tags, and no others."""
    wanted = {
        SNAPSHOTS + b"/" + os.fsencode(tag.name): tag for tag in tags if _can_be_shown(tag.name)
    }
    _ensure_folders(draft, store, now)
    shown = {bound.path: bound for bound in draft.binds(SNAPSHOTS)}
    for path, bound in shown.items():
        tag = wanted.get(path)
        if tag is None or tag.root_catalog != bound.digest:
            draft.remove(path)
    for path, tag in wanted.items():
        bound = NestedCatalog(path, tag.root_catalog, tag.size_bytes)
        if shown.get(path) != bound and _is_stored(tag, store):
            root = draft.beside(tag.root_catalog).find(b"")
            assert root is not None
            entry = replace(root.entry, name=path.rpartition(b"/")[2])
            draft.put_bind(Item(path, entry), bound)


def hide_snapshots(draft: Draft) -> None:
    """Have the draft show none."""
    folder = draft.find(FOLDER)
    if folder is not None and folder.entry.is_hidden:
        draft.remove(FOLDER)


def _is_stored(tag: Tag, store: ObjectStore) -> bool:
    return store.has(object_path(tag.root_catalog, ObjectKind.CATALOG))


def _can_be_shown(name: str) -> bool:
    # the first two would be of the revision before
    return (
        name not in (TRUNK, TRUNK_PREVIOUS, ".", "..")
        and not set(name) & {"/", "\0"}
        and 0 < len(os.fsencode(name)) <= MAX_NAME_BYTES
    )


def _ensure_folders(draft: Draft, store: ObjectStore, now: datetime) -> None:
    if draft.find(SNAPSHOTS) is not None:
        return
    hidden = _folder(FOLDER, now)
    flags = hidden.entry.flags | EntryFlag.HIDDEN
    draft.put(Item(FOLDER, replace(hidden.entry, flags=flags)))
    marker = marker_entry(
        draft.repository, store, CATALOG_MARKER, mtime_s=int(now.timestamp()), mtime_ns=0
    )
    draft.put(Item(FOLDER + b"/" + CATALOG_MARKER, marker))
    draft.put(_folder(SNAPSHOTS, now))


def _folder(path: bytes, now: datetime) -> Item:
    entry = Entry(
        name=path.rpartition(b"/")[2],
        mode=stat.S_IFDIR | 0o555,
        size=DIRECTORY_SIZE_BYTES,
        mtime_s=int(now.timestamp()),
        mtime_ns=0,
        uid=0,
        gid=0,
        flags=EntryFlag.DIRECTORY,
        link_count=2,
    )
    return Item(path, entry)
