"""Catalogs in a replica's store of which nobody knows that all below them is there.

They are left by what was copied in part before everything was, and by a collection that was broken off, whenever no
revision that was looked into since refers to them. A later one may: the upstream goes back to what it served before.
Source: docs/formats/replica.md, "Doubts".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import FormatError, NotFoundError
from cernvm.fs.format.objects import ObjectKind, parse_object_path
from cernvm.fs.store.port import ObjectStore

DOUBTS_PATH = ".cvmfs_replica.doubts"


def read_doubts(store: ObjectStore) -> set[Digest]:
    """The catalogs to look into when they are wanted. Errors: `FormatError` for a list that cannot be read."""
    try:
        text = store.get(DOUBTS_PATH).decode("ascii", "replace")
    except NotFoundError:
        return set()
    return {parse_digest(line) for line in text.splitlines()}


def write_doubts(store: ObjectStore, doubted: Collection[Digest]) -> None:
    """Note them in place of those that were; before the replica's state says that its other catalogs are whole."""
    if doubted:
        store.replace(
            DOUBTS_PATH, "".join(f"{one}\n" for one in sorted(map(str, doubted))).encode()
        )
    else:
        store.delete(DOUBTS_PATH)


def catalogs_there(store: ObjectStore) -> Iterator[Digest]:
    """All catalogs that a store holds, whole or not."""
    for path in store.paths("data/"):
        try:
            digest, kind = parse_object_path(path)
        except FormatError:
            continue  # not ours
        if kind is ObjectKind.CATALOG:
            yield digest
