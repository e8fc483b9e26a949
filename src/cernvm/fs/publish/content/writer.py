"""What turns a publication's files, streams and bytes into objects, whoever does the work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import NamedTuple

from cernvm.core.errors import DeadlineError
from cernvm.fs.publish.content.crew import Crew
from cernvm.fs.publish.content.jobs import Job, Made, Row, Source, Task, content_of, extent_of
from cernvm.fs.publish.content.progress import Progress
from cernvm.fs.publish.content.reading import blocks_of, cut
from cernvm.fs.publish.content.recipe import MOST_WHOLE_BYTES, Content, Recipe
from cernvm.fs.publish.source import Found
from cernvm.fs.store.port import ObjectStore

_BATCH_BYTES = 1 << 20
_BATCH_SOURCES = 64
_SPREAD_BYTES = (
    64 << 20
)  # a larger file is not left to one worker; also, how far its marks are looked for at once
_WAITING_BYTES = 96 << 20  # of content that lies in memory
_WAITING_JOBS = 256
_WAITING_SOURCES = 4096  # some kilobytes each, with what their `done` holds
_JOB_S = 900.0  # for 64 MB, whatever disk, store and machine

Done = Callable[[os.stat_result, Content], None]
StreamDone = Callable[[None, Content], None]
_Collect = Callable[[Content], None]
_NOTHING = Content(0, None)


class _Part(NamedTuple):
    """A piece of a file, or all of it, that is being stored."""

    task: Task
    offset: int
    future: Future[list[Row]]


class _Waiting(NamedTuple):
    """What must be collected in its turn."""

    held_bytes: int
    sources: int
    future: Future[list[Row]] | None
    collect: Callable[[], None]


@contextmanager
def open_writer(
    store: ObjectStore,
    recipe: Recipe,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Iterator[ContentWriter]:
    """A writer that stores by `recipe`, with as many workers as there are cores unless told otherwise.

    Everything is stored when the block ends without an error; with one, what is not yet stored will not be.
    """
    crew = Crew(store, workers or len(os.sched_getaffinity(0)))
    try:
        writer = ContentWriter(crew, recipe, progress or Progress())
        yield writer
        writer.finish()
    except BaseException:
        crew.abort()
        raise
    crew.close()


class ContentWriter:
    """Stores content; `finish` waits for all of it.

    Each `add…` takes another `recipe` where a file's is not the writer's. Memory is bounded, whatever is added.
    Concurrency: one thread calls it; `done` is called in that thread, in the order of adding, now or later.
    Errors: those of reading the source, each naming it, and of the store; from any call, about anything added before.
    """

    def __init__(self, crew: Crew, recipe: Recipe, progress: Progress) -> None:
        self.recipe = recipe
        self._crew = crew
        self._progress = progress
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = self._waiting_sources = 0
        self._batch: list[tuple[Source | None, _Collect]] = []
        self._batch_bytes = 0
        self._batch_held_bytes = 0
        self._batch_recipe = recipe

    def add(self, found: Found, done: Done, *, recipe: Recipe | None = None) -> None:
        """Store a regular file; `done` is given its attributes, as they were found, and content."""
        self.add_extent(found, 0, found.status.st_size, done, recipe=recipe)

    def add_extent(
        self, found: Found, offset: int, length: int, done: Done, *, recipe: Recipe | None = None
    ) -> None:
        """Store a stretch of a regular file as if it were a file: a member of an archive, say."""
        chosen = recipe or self.recipe
        status = found.status
        is_large = length > _SPREAD_BYTES > chosen.sizes.maximum
        if is_large and not (chosen.has_whole and length <= MOST_WHOLE_BYTES):
            self._spread(found, offset, length, chosen, lambda content: done(status, content))
            return
        extent = extent_of(found, offset, length)
        self._add(extent, length, chosen, lambda content: done(status, content), held_bytes=0)

    def add_bytes(self, data: bytes, done: StreamDone, *, recipe: Recipe | None = None) -> None:
        """Store bytes as a file's content."""
        chosen = recipe or self.recipe
        size = len(data)
        self._add(data, size, chosen, lambda content: done(None, content), held_bytes=size)

    def add_stream(
        self, read: Callable[[int], bytes], done: StreamDone, *, recipe: Recipe | None = None
    ) -> None:
        """Store what `read`, given a number of bytes, returns at most that many of at a time, nothing at the end."""
        chosen = recipe or self.recipe
        parts: list[_Part] = []
        kept: list[bytes] | None = [] if chosen.has_whole else None
        for offset, piece, is_only in cut(blocks_of(read), chosen.sizes):
            if is_only:
                parts.append(self._hand_over_piece(Task.STORE_WHOLE, piece, 0, len(piece), chosen))
                break
            parts.append(self._hand_over_piece(Task.STORE_PIECE, piece, offset, len(piece), chosen))
            if kept is not None:
                kept.append(piece)
                if offset + len(piece) > MOST_WHOLE_BYTES:
                    kept = None
        if kept:
            data = b"".join(kept)
            parts.append(self._hand_over_piece(Task.STORE_WHOLE, data, 0, len(data), chosen))
        self._join_later(parts, chosen, lambda content: done(None, content))

    def then(self, step: Callable[[], None]) -> None:
        """Call `step` when everything added before is stored and told, and before anything that is added later is."""
        self._batch.append((None, lambda _content: step()))
        if len(self._batch) >= _BATCH_SOURCES:
            self._hand_over()

    def finish(self) -> None:
        """Wait until everything that was added is stored, and every `done` was called."""
        self._hand_over()
        while self._waiting:
            self._collect()

    def _add(
        self, source: Source, size_bytes: int, recipe: Recipe, collect: _Collect, *, held_bytes: int
    ) -> None:
        """Put a source into the batch; batches are handed over whole."""
        if recipe is not self._batch_recipe:
            self._hand_over()
            self._batch_recipe = recipe
        self._batch.append((source, collect))
        self._batch_bytes += size_bytes
        self._batch_held_bytes += held_bytes
        if self._batch_bytes >= _BATCH_BYTES or len(self._batch) >= _BATCH_SOURCES:
            self._hand_over()

    def _hand_over(self) -> None:
        batch, size, held = self._batch, self._batch_bytes, self._batch_held_bytes
        if not batch:
            return
        self._batch, self._batch_bytes, self._batch_held_bytes = [], 0, 0
        recipe = self._batch_recipe
        sources = tuple(source for source, _ in batch if source is not None)
        future = self._crew.submit(Job(Task.STORE, recipe, sources), size) if sources else None

        def collect() -> None:
            rows = iter(_result(future) if future is not None else ())
            for source, tell in batch:
                if source is None:
                    tell(_NOTHING)
                else:
                    row = next(rows)
                    tell(self._counted(content_of(row, recipe.algorithm), row.objects))

        self._wait_for(held, future, collect, sources=len(batch))

    def _spread(
        self, found: Found, offset: int, length: int, recipe: Recipe, collect: _Collect
    ) -> None:
        """Give the pieces of a file to all workers, as its marks get known, a stretch at a time."""
        parts: list[_Part] = []
        start, end = offset, offset + length
        looking = self._look_for_marks(found, start, end, recipe)
        while start < end:
            is_last = start + _SPREAD_BYTES >= end
            marks = _result(looking)[0].marks
            if not is_last:  # on with it, before the pieces keep all workers busy
                looking = self._look_for_marks(found, marks[-1], end, recipe)
            for mark in (*marks, end) if is_last else marks:
                piece = extent_of(found, start, mark - start)
                part = self._hand_over_piece(
                    Task.STORE_PIECE, piece, start - offset, piece.length, recipe
                )
                parts.append(part)
                start = mark
        self._join_later(parts, recipe, collect)

    def _look_for_marks(
        self, found: Found, start: int, end: int, recipe: Recipe
    ) -> Future[list[Row]]:
        extent = extent_of(found, start, min(_SPREAD_BYTES, end - start))
        return self._crew.submit(Job(Task.FIND_MARKS, recipe, (extent,)), extent.length)

    def _hand_over_piece(
        self, task: Task, source: Source, offset: int, size: int, recipe: Recipe
    ) -> _Part:
        self._hand_over()
        future = self._crew.submit(Job(task, recipe, (source,)), size)
        held = len(source) if isinstance(source, bytes) else 0
        self._wait_for(held, future, lambda: None)
        return _Part(task, offset, future)

    def _join_later(self, parts: list[_Part], recipe: Recipe, tell: _Collect) -> None:
        def collect() -> None:
            pieces: list[Made] = []
            whole = None
            for part in parts:
                (made,) = _result(part.future)[0].objects
                if part.task is Task.STORE_WHOLE:
                    whole = made
                else:
                    pieces.append(made._replace(offset=part.offset))
            size = sum(made.size for made in pieces) if whole is None else whole.size
            row = Row(size, whole, tuple(pieces))
            tell(self._counted(content_of(row, recipe.algorithm), row.objects))

        self._wait_for(0, None, collect)

    def _counted(self, content: Content, objects: tuple[Made, ...]) -> Content:
        for made in objects:
            self._progress.add_object(made.written_bytes)
        self._progress.add_file(content)
        return content

    def _wait_for(
        self,
        held_bytes: int,
        future: Future[list[Row]] | None,
        collect: Callable[[], None],
        *,
        sources: int = 1,
    ) -> None:
        """Queue what must be collected in order; collect what is done, and the oldest while too much waits."""
        self._waiting.append(_Waiting(held_bytes, sources, future, collect))
        self._waiting_bytes += held_bytes
        self._waiting_sources += sources
        while self._waiting and (
            self._waiting_bytes > _WAITING_BYTES
            or self._waiting_sources > _WAITING_SOURCES
            or len(self._waiting) > _WAITING_JOBS
            or _is_done(self._waiting[0].future)
        ):
            self._collect()

    def _collect(self) -> None:
        one = self._waiting.popleft()
        if one.future is not None:
            _result(one.future)
        self._waiting_bytes -= one.held_bytes
        self._waiting_sources -= one.sources
        one.collect()


def _is_done(future: Future[list[Row]] | None) -> bool:
    return future is None or future.done()


def _result(future: Future[list[Row]]) -> list[Row]:
    try:
        return future.result(_JOB_S)
    except FutureTimeoutError:
        raise DeadlineError("storing a file's content", after_s=_JOB_S) from None
