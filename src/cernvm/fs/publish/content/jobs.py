"""What a crew is given to do, and what it gives back; plain enough to be sent to a worker process.

Source: docs/formats/content-workers.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from cernvm.core.digest import Algorithm, Digest
from cernvm.fs.format.chunker import ChunkSizes
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.deflater import find_deflater
from cernvm.fs.format.entry import Chunk
from cernvm.fs.publish.content.recipe import Content, Recipe
from cernvm.fs.publish.source import Found


class Task(IntEnum):
    """What to do with each source of a job."""

    STORE = 0  # as one object, or as chunks where it is cut
    STORE_WHOLE = 1  # as one object, however large
    STORE_PIECE = 2  # as one chunk
    FIND_MARKS = (
        3  # store nothing: say where a file is cut from the source's first byte, itself a mark, on
    )


class Extent(NamedTuple):
    """A stretch of a source file, which must still be the file that was found. Units: bytes."""

    place: bytes
    device: int
    inode: int
    file_size: int
    mtime_ns: int
    offset: int
    length: int


class Made(NamedTuple):
    """One object. Shape: `raw` is the digest's bytes. Units: `written_bytes` is 0 where the store had it."""

    offset: int
    size: int
    raw: bytes
    written_bytes: int


class Row(NamedTuple):
    """What one source became; or, for FIND_MARKS, the marks found."""

    size: int
    whole: Made | None
    pieces: tuple[Made, ...] = ()
    marks: tuple[int, ...] = ()

    @property
    def objects(self) -> tuple[Made, ...]:
        """All of them."""
        return self.pieces if self.whole is None else (self.whole, *self.pieces)


Source = Extent | bytes


@dataclass(frozen=True, slots=True)
class Job:
    """One task for several sources, by one recipe."""

    task: Task
    recipe: Recipe
    sources: tuple[Source, ...]


def extent_of(found: Found, offset: int = 0, length: int | None = None) -> Extent:
    """A stretch of a file that a walk found; all of it without `length`."""
    status = found.status
    size = status.st_size
    return Extent(
        found.place,
        status.st_dev,
        status.st_ino,
        size,
        status.st_mtime_ns,
        offset,
        size - offset if length is None else length,
    )


def content_of(row: Row, algorithm: Algorithm) -> Content:
    """A row as the rest of the publisher knows it."""
    whole = None if row.whole is None else Digest(algorithm, row.whole.raw)
    chunks = tuple(Chunk(p.offset, p.size, Digest(algorithm, p.raw)) for p in row.pieces)
    return Content(row.size, whole, chunks)


Plain = tuple[Any, ...]  # what `marshal` writes


def pack_job(job: Job) -> Plain:
    """A job as tuples, numbers, text and bytes."""
    recipe = job.recipe
    sizes = recipe.sizes
    packed = (
        recipe.algorithm.value,
        int(recipe.compression),
        str(recipe.deflater),
        (sizes.minimum, sizes.average, sizes.maximum),
        recipe.is_external,
        recipe.has_whole,
    )
    return (
        int(job.task),
        packed,
        tuple(s if isinstance(s, bytes) else tuple(s) for s in job.sources),
    )


def unpack_job(plain: Plain) -> Job:
    """The job in what `pack_job` made."""
    task, (algorithm, compression, deflater, sizes, *flags), sources = plain
    recipe = Recipe(
        Algorithm(algorithm),
        Compression(compression),
        find_deflater(deflater),
        ChunkSizes(*sizes),
        *flags,
    )
    return Job(
        Task(task), recipe, tuple(s if isinstance(s, bytes) else Extent(*s) for s in sources)
    )


def pack_row(row: Row) -> Plain:
    """A row as tuples, numbers and bytes."""
    whole = None if row.whole is None else tuple(row.whole)
    return row.size, whole, tuple(map(tuple, row.pieces)), row.marks


def unpack_row(plain: Plain) -> Row:
    """The row in what `pack_row` made."""
    size, whole, pieces, marks = plain
    return Row(
        size,
        None if whole is None else Made(*whole),
        tuple(Made(*piece) for piece in pieces),
        marks,
    )
