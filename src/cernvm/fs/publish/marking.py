"""The dirtab at work: `.cvmfscatalog` in the directories of a draft that it names.

Only directories that came, and those on the way to a match below them, are looked into, unless the rules changed.
Markers are made and never removed here: who publishes a tree without them decides by the rules that the tree brings.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from functools import partial

from cernvm.fs.format.catalog import CATALOG_MARKER
from cernvm.fs.format.compress import Inflater
from cernvm.fs.format.entry import Entry, EntryFlag
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.content import Content, ContentWriter
from cernvm.fs.publish.dirtab import DIRTAB_PATH, MAX_BYTES, Dirtab, parse_dirtab
from cernvm.fs.publish.draft import Draft
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item


def read_dirtab(draft: Draft, store: ObjectStore) -> Dirtab:
    """The rules of a draft whose content is stored; none where it has no such file.

    Errors: `InvalidInputError` for rules that cannot be, `NotFoundError` where the store lost them.
    """
    item = draft.find(DIRTAB_PATH)
    if item is None or item.entry.digest is None or item.entry.is_external:
        return Dirtab()
    stored = store.get(object_path(item.entry.digest, ObjectKind.PLAIN))
    inflater = Inflater(item.entry.compression, limit_bytes=MAX_BYTES)
    data = b"".join(inflater.feed(stored))
    inflater.finish()
    return parse_dirtab(data)


def mark_catalogs(
    draft: Draft, writer: ContentWriter, dirtab: Dirtab, tops: Iterable[bytes]
) -> None:
    """Have the directories at and below `tops` that match have a marker, as old as they are."""

    def folders(path: bytes) -> list[bytes]:
        return [item.entry.name for item in draft.listing(path) if item.entry.is_directory]

    chosen = [path for top in tops for path in dirtab.matches_below(top, folders)]
    for path in chosen:
        marker, folder = path + b"/" + CATALOG_MARKER, draft.find(path)
        if folder is not None and draft.find(marker) is None:
            writer.add_bytes(b"", partial(_put, draft, writer, marker, folder.entry))
    writer.finish()


def _put(
    draft: Draft,
    writer: ContentWriter,
    path: bytes,
    like: Entry,
    _status: os.stat_result | None,
    content: Content,
) -> None:
    entry = Entry(
        name=CATALOG_MARKER,
        mode=stat.S_IFREG | 0o644,
        size=0,
        mtime_s=like.mtime_s,
        mtime_ns=like.mtime_ns,
        uid=like.uid,
        gid=like.gid,
        flags=int(EntryFlag.FILE) | (int(EntryFlag.EXTERNAL) if writer.recipe.is_external else 0),
        digest=content.digest,
        compression=writer.recipe.compression,
    )
    draft.put(Item(path, entry))
