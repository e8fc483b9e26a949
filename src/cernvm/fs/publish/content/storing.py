"""One job done: sources are read, cut, deflated, named and put."""

from __future__ import annotations

from collections.abc import Iterator

from cernvm.fs.format.chunker import CutFinder
from cernvm.fs.format.compress import deflate_content
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.content.jobs import Extent, Job, Made, Row, Source, Task
from cernvm.fs.publish.content.reading import blocks, cut, opened
from cernvm.fs.publish.content.recipe import MOST_WHOLE_BYTES, Recipe
from cernvm.fs.store.port import ObjectStore


def do_job(job: Job, store: ObjectStore) -> list[Row]:
    """A row for each source of the job, in their order.

    Concurrency: as safe from several threads as the store is.
    """
    return [_do_source(job, source, store) for source in job.sources]


def _do_source(job: Job, source: Source, store: ObjectStore) -> Row:
    if isinstance(source, bytes):
        return _do(job, len(source), iter((source,)), store)
    with opened(source) as descriptor:
        if job.task is Task.FIND_MARKS:
            return Row(0, None, marks=tuple(_marks(source, descriptor, job.recipe)))
        return _do(job, source.length, blocks(source, descriptor), store)


def _do(job: Job, size: int, content: Iterator[bytes], store: ObjectStore) -> Row:
    recipe = job.recipe
    if job.task is Task.STORE_PIECE:
        return Row(size, _store(b"".join(content), ObjectKind.PARTIAL, recipe, store))
    if job.task is Task.STORE_WHOLE or size <= recipe.sizes.minimum:
        return Row(size, _store(b"".join(content), ObjectKind.PLAIN, recipe, store))
    keeps_whole = recipe.has_whole and size <= MOST_WHOLE_BYTES
    kept: list[bytes] = []
    pieces: list[Made] = []
    for offset, piece, is_only in cut(content, recipe.sizes):
        if is_only:
            return Row(size, _store(piece, ObjectKind.PLAIN, recipe, store))
        pieces.append(_store(piece, ObjectKind.PARTIAL, recipe, store, offset))
        if keeps_whole:
            kept.append(piece)
    whole = _store(b"".join(kept), ObjectKind.PLAIN, recipe, store) if keeps_whole else None
    return Row(size, whole, tuple(pieces))


def _store(
    data: bytes, kind: ObjectKind, recipe: Recipe, store: ObjectStore, offset: int = 0
) -> Made:
    stored = deflate_content(data, recipe.compression, recipe.deflater)
    digest = recipe.algorithm.digest(stored)
    if recipe.is_external:
        return Made(offset, len(data), digest.raw, 0)
    path = object_path(digest, kind)
    if store.has(path):
        return Made(offset, len(data), digest.raw, 0)
    store.put(path, stored)
    return Made(offset, len(data), digest.raw, len(stored))


def _marks(extent: Extent, descriptor: int, recipe: Recipe) -> Iterator[int]:
    """Offsets in the file: nothing before a mark has a say in where the next ones are."""
    finder = CutFinder(recipe.sizes)
    for block in blocks(extent, descriptor):
        for mark in finder.feed(block):
            yield extent.offset + mark
