"""The empty files that mark a directory as the root of a catalog."""

from __future__ import annotations

import stat

from cernvm.fs.format.compress import deflate_content
from cernvm.fs.format.entry import Entry, EntryFlag
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.repository import Repository
from cernvm.fs.store.port import ObjectStore


def marker_entry(
    repository: Repository,
    store: ObjectStore,
    name: bytes,
    *,
    mtime_s: int,
    mtime_ns: int | None,
) -> Entry:
    """The entry of a marker, whose content is in the store."""
    stored = deflate_content(b"", repository.compression)
    digest = repository.algorithm.digest(stored)
    path = object_path(digest, ObjectKind.PLAIN)
    if not store.has(path):
        store.put(path, stored)
    return Entry(
        name=name,
        mode=stat.S_IFREG | 0o644,
        size=0,
        mtime_s=mtime_s,
        mtime_ns=mtime_ns,
        uid=0,
        gid=0,
        flags=EntryFlag.FILE,
        digest=digest,
        compression=repository.compression,
    )
