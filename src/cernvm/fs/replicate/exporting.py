"""`export`: the served revision of a store, or what it adds to an earlier one, as a stream."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Self

from cernvm.core.digest import Digest
from cernvm.core.errors import DigestMismatchError, InvalidInputError, NotFoundError
from cernvm.core.workshop import open_scratch
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.history import Tag
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import MANIFEST_PATH, WHITELIST_PATH, ObjectKind, object_path
from cernvm.fs.replicate.revealing import objects_beside
from cernvm.fs.replicate.state import read_state
from cernvm.fs.replicate.stream import Header, StreamWriter
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.marks import object_key, parse_key
from cernvm.fs.survey.references import read_references
from cernvm.fs.survey.walking import walk

_OPTIONAL = frozenset({ObjectKind.PACK, ObjectKind.PROFILE})


@dataclass(frozen=True, slots=True)
class Exported:
    """What a stream brings. Units: `size_bytes` of the whole stream."""

    name: str
    revision: int
    revisions: int
    objects: int
    size_bytes: int


def export(
    store: ObjectStore,
    manifest: Manifest,
    file: IO[bytes],
    *,
    base: Tag | None = None,
    also: Sequence[Digest] = (),
    on_progress: Callable[[int, int], None] = lambda _objects, _bytes: None,
) -> Exported:
    """Write the served revision, and those of the root catalogs `also`, without what the revision `base` has.

    A stream begins with what hangs below, so that whoever reads it may store each object at once. Memory: flat.
    Errors: `NotFoundError` and `DigestMismatchError` for a store that is not whole, `InvalidInputError` for a partial
    replica.
    """
    _check_whole(store, manifest.name)
    roots = tuple(dict.fromkeys((manifest.root_catalog, *also)))
    header = Header(
        manifest.name,
        manifest.revision,
        roots,
        None if base is None else base.root_catalog,
        0 if base is None else base.revision,
    )
    writer = StreamWriter(file, header)
    objects = 0
    with open_scratch() as scratch, _Sent(scratch) as sent:
        if base is not None:
            for found in walk(store, [base.root_catalog], set()):
                sent.note(found.objects)
                sent.note([object_key(found.catalog.digest, ObjectKind.CATALOG)])
        for digest, kind, stored in _read_ahead(store, _wanted(store, manifest, roots, sent)):
            writer.add_object(digest, kind, stored)
            objects += 1
            on_progress(objects, writer.written_bytes)
    for path in (WHITELIST_PATH, MANIFEST_PATH):
        writer.add_document(path, store.get(path))
    writer.close()
    return Exported(manifest.name, manifest.revision, len(roots), objects, writer.written_bytes)


def _check_whole(store: ObjectStore, name: str) -> None:
    state = read_state(store)
    if state is not None and (state.paths or state.is_working):
        raise InvalidInputError(
            f"only a part of {name} is here", advice="replicate all of it, then export that"
        )


def _wanted(
    store: ObjectStore, manifest: Manifest, roots: Sequence[Digest], sent: _Sent
) -> Iterator[bytes]:
    """The keys of all objects that were not sent, each catalog after everything below it."""
    for root in reversed(roots):  # the newest revision last: before it is whole nothing is served
        waiting: list[tuple[NestedCatalog, bool]] = [(NestedCatalog(b"", root, 0), False)]
        while waiting:
            catalog, is_open = waiting.pop()
            key = object_key(catalog.digest, ObjectKind.CATALOG)
            if is_open:
                yield from sent.new([key])
            elif not sent.has(key):
                found = read_references(store, catalog)
                yield from sent.new(found.objects)
                waiting.append((catalog, True))
                waiting += [(nested, False) for nested in found.nested]
    for digest, kind in objects_beside(manifest):
        yield from sent.new([object_key(digest, kind.object_kind)])


def _read_ahead(
    store: ObjectStore, keys: Iterator[bytes]
) -> Iterator[tuple[Digest, ObjectKind, bytes]]:
    """The objects in their order, as many at once as the store is worth; packs that it lacks are left out."""
    pool = ThreadPoolExecutor(max(1, store.lanes), thread_name_prefix="export")
    waiting: deque[Future[tuple[Digest, ObjectKind, bytes] | None]] = deque()
    try:
        for key in keys:
            waiting.append(pool.submit(_read, store, key))
            if len(waiting) > 2 * store.lanes and (read := waiting.popleft().result()) is not None:
                yield read
        while waiting:
            if (read := waiting.popleft().result()) is not None:
                yield read
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(store: ObjectStore, key: bytes) -> tuple[Digest, ObjectKind, bytes] | None:
    digest, kind = parse_key(key)
    path = object_path(digest, kind)
    try:
        stored = store.get(path)
    except NotFoundError:
        if kind in _OPTIONAL:
            return None
        raise
    got = digest.algorithm.digest(stored)
    if got != digest:
        raise DigestMismatchError(expected=str(digest), got=str(got), source=f"object {path}")
    return digest, kind, stored


class _Sent:
    """Keys of objects that the receiver has by then, on disk."""

    def __init__(self, folder: Path) -> None:
        path = folder / f"sent-{next(_numbers)}"
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE sent (key BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def note(self, keys: Sequence[bytes]) -> None:
        """State that the receiver has them."""
        self._database.executemany(_INSERT, ((key,) for key in keys))

    def has(self, key: bytes) -> bool:
        """Whether the receiver has it."""
        found = self._database.execute("SELECT 1 FROM sent WHERE key = ?", (key,))
        return found.fetchone() is not None

    def new(self, keys: Sequence[bytes]) -> Iterator[bytes]:
        """Those that the receiver does not have; it has them from now on."""
        for key in keys:
            if self._database.execute(_INSERT, (key,)).rowcount:
                yield key


_INSERT = "INSERT OR IGNORE INTO sent (key) VALUES (?)"
_numbers = count()
