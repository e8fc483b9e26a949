"""Why a path can or cannot be read: everything known about it, without asking the network."""

from __future__ import annotations

from cernvm.core.errors import CvmError, NotFoundError
from cernvm.fs.cache import ContentKey
from cernvm.fs.format.entry import Entry, EntryKind
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.reader.pieces import Piece, pieces_of
from cernvm.fs.reader.repository import Repository
from cernvm.fs.reader.trace import ObjectState, Why

MAX_OBJECTS = 64


def explain(repository: Repository, path: bytes) -> Why:
    """The catalogs, objects, attempts and failures that belong to a path. Shape: as `Tree`: the root is empty."""
    revision = repository.revision
    try:
        entry, pieces = _look(repository, path)
        words = _words(entry)
    except CvmError as error:
        pieces, words = (), str(error)
    catalogs = revision.tree.chain(path)
    objects = [
        _state(
            repository,
            ContentKey(state.digest),
            object_path(state.digest, ObjectKind.CATALOG),
            0,
            is_cached=False,
        )
        for state in catalogs
        if not state.is_cached
    ]
    objects += [_object_state(repository, piece) for piece in pieces[:MAX_OBJECTS]]
    published, expires = revision.published_at, repository.whitelist_expires_at
    now = repository.clock.now()
    return Why(
        repository=repository.name,
        path=path,
        entry=words,
        revision=revision.number,
        root_catalog=revision.root_catalog,
        age_s=None if published is None else (now - published).total_seconds(),
        checked_s=repository.confirmed_s,
        whitelist_s=None if expires is None else (expires - now).total_seconds(),
        hosts=repository.fetcher.hosts,
        proxy=repository.fetcher.proxy,
        routes=repository.fetcher.routes,
        cache=repository.usage(),
        ahead=repository.ahead.counters(),
        catalogs=catalogs,
        objects=tuple(objects),
        failures=repository.trace.failures(path),
        revision_error=repository.revision_error,
        revision_attempts=repository.revision_attempts,
    )


def _look(repository: Repository, path: bytes) -> tuple[Entry | None, tuple[Piece, ...]]:
    """The entry, None when its catalog is not at hand, and the pieces of a regular file."""
    catalog = repository.revision.tree.try_folder(path.rpartition(b"/")[0])
    if catalog is None:
        return None, ()
    entry = catalog.find(path)
    if entry is None:
        raise NotFoundError("path", path.decode("utf-8", "replace"))
    if entry.kind is not EntryKind.FILE:
        return entry, ()
    chunks = catalog.chunks(path) if entry.is_chunked else ()
    return entry, pieces_of(entry, chunks, path=path)


def _words(entry: Entry | None) -> str:
    if entry is None:
        return "unknown: its catalog is not in the cache"
    kind = entry.kind.name.lower()
    return f"{kind}, mode {entry.mode:o}, {entry.size} bytes"


def _object_state(repository: Repository, piece: Piece) -> ObjectState:
    elsewhere = piece.elsewhere
    name = elsewhere.path if elsewhere else object_path(piece.key.digest, piece.kind)
    is_cached = repository.objects.holds(piece.key)
    return _state(repository, piece.key, name, piece.size_bytes, is_cached=is_cached)


def _state(
    repository: Repository, key: ContentKey, name: str, size_bytes: int, *, is_cached: bool
) -> ObjectState:
    on_its_way = repository.objects.is_on_its_way(key)
    return ObjectState(name, size_bytes, is_cached, on_its_way, repository.trace.attempts(name))
