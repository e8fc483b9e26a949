"""Fetching all that a part of a repository needs, so that it can be kept in the cache and used without a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from cernvm.core.clock import Deadline
from cernvm.fs.api.files import DEFAULT_WAIT_S, AnyPath
from cernvm.fs.api.opened import OpenRepository
from cernvm.fs.cache import ContentKey
from cernvm.fs.format.entry import Entry, EntryKind
from cernvm.fs.reader import Catalog, Piece, Tree, pieces_of

_LANES = 8


def fetch_whole(
    repository: OpenRepository, path: AnyPath, *, wait_s: float = DEFAULT_WAIT_S
) -> Iterator[tuple[ContentKey, int]]:
    """Fetch a file, or a directory with all below it; yields every object's key and size as it arrives.

    Catalogs on the way and below are among them, with size 0. Files outside of the repository's own storage are not.
    Units: `wait_s` bounds the wait for each object. Errors: those of `Files` and of the reader, for the first object
    that cannot be had.
    """
    inside = repository.files.resolved(path).rstrip(b"/")
    objects = repository.client.repository.objects

    def fetch(piece: Piece) -> tuple[ContentKey, int]:
        objects.get(piece.key, piece.kind, Deadline.after(wait_s), size_bytes=piece.size_bytes)
        return piece.key, piece.size_bytes

    with ThreadPoolExecutor(_LANES, thread_name_prefix="keeping") as lanes:
        try:
            for catalog, pieces in _needs(repository, inside, wait_s):
                yield catalog.key, 0
                yield from lanes.map(fetch, pieces)
        finally:
            lanes.shutdown(cancel_futures=True)


def _needs(
    repository: OpenRepository, path: bytes, wait_s: float
) -> Iterator[tuple[Catalog, Sequence[Piece]]]:
    """Each directory's catalog with the pieces of its files, from the root down to `path` and all below."""
    tree = repository.client.repository.revision.tree
    names = path.split(b"/")[1:]
    for depth in range(len(names)):
        above = b"".join(b"/" + name for name in names[:depth])
        catalog = tree.folder(above, Deadline.after(wait_s))
        yield catalog, ()
    if names:
        entry = catalog.find(path)
        if entry is not None and not entry.is_directory:
            yield catalog, _pieces(catalog, path, entry)
            return
    yield from _all_below(tree, path, wait_s)


def _all_below(tree: Tree, top: bytes, wait_s: float) -> Iterator[tuple[Catalog, Sequence[Piece]]]:
    waiting = [top]
    while waiting:
        path = waiting.pop()
        catalog = tree.folder(path, Deadline.after(wait_s))
        pieces: list[Piece] = []
        for entry in catalog.children(path):
            below = path + b"/" + entry.name
            if entry.is_directory:
                waiting.append(below)
            else:
                pieces += _pieces(catalog, below, entry)
        yield catalog, pieces


def _pieces(catalog: Catalog, path: bytes, entry: Entry) -> Sequence[Piece]:
    if entry.kind is not EntryKind.FILE or entry.is_external:
        return ()
    chunks = catalog.chunks(path) if entry.is_chunked else ()
    return pieces_of(entry, chunks, path=path)
