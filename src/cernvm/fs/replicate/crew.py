"""Threads that fetch objects and put them, each verified by its digest before it is visible.

Whoever asks gives jobs and takes what became of them, in no order. A job is first tried among many on one connection;
what does not come that way is asked for by itself, of every mirror in turn.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from cernvm.core.clock import Clock, Deadline, SystemClock
from cernvm.core.digest import Digest
from cernvm.core.errors import CvmError, DeadlineError, DigestMismatchError
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.pack import Pack, PackReader
from cernvm.fs.store.port import ObjectStore
from cernvm.net import Fetcher, Sink, Want

DEFAULT_THREADS = 4  # each with many requests on its connection; more wait for the interpreter
_MOST_JOBS = 64  # of one turn on a connection
_LEAST_JOBS = 8
_TOLD_AT_ONCE = 32
_TOLD_AFTER_S = 1.0
_TURN_BYTES = 4 << 20
_HELD_BYTES = 192 << 20  # of objects that are on their way into memory
_TURN_S = 120.0
_SLOWEST_BYTES_PER_S = 16 << 10
_SPARE_BYTES = 1 << 20
_STORING_S = 600.0
_END_S = 20.0


@dataclass(frozen=True, slots=True)
class Job:
    """An object to be fetched.

    Shape: `is_kept` has it put into the store, else its bytes are given back; of a `pack`, the objects are put as well.
    Units: `size_bytes` is about what will come.
    """

    digest: Digest
    kind: ObjectKind
    size_bytes: int
    is_kept: bool = True
    pack: Pack | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a job: why it failed, or its bytes where they were not put, and what was received and put."""

    job: Job
    error: BaseException | None = None
    stored: bytes = b""
    received_bytes: int = 0
    put_objects: int = 0


class Crew:
    """Fetches while the context is open; leaving it ends all threads.

    Concurrency: one thread gives and takes.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        store: ObjectStore,
        *,
        threads: int = DEFAULT_THREADS,
        clock: Clock | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._store = store
        self._clock = clock or SystemClock()
        self._jobs: deque[Job] = deque()
        self._done: queue.SimpleQueue[list[Done]] = queue.SimpleQueue()
        self._taken: deque[Done] = deque()
        self._changed = threading.Condition()
        self._held_bytes = 0
        self._is_over = False
        self._silence_s = 0.0  # how long nothing at all may be heard
        self.under_way = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"replicate-{n}", daemon=True)
            for n in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._is_over = True
            self._jobs.clear()
            self._changed.notify_all()
        self._fetcher.close()
        ends_at = self._clock.monotonic() + _END_S
        for thread in self._threads:
            thread.join(max(0.0, ends_at - self._clock.monotonic()))

    def give(self, job: Job, *, first: bool = False) -> None:
        """Have an object fetched, before all others if `first`."""
        with self._changed:
            self.under_way += 1
            self._silence_s = max(self._silence_s, 2 * _patience_s([job]) + _STORING_S)
            if first:
                self._jobs.appendleft(job)
            else:
                self._jobs.append(job)
            self._changed.notify()

    def take(self) -> Done:
        """What became of some job; waits for it. Errors: `DeadlineError` where a store hangs, as nothing else can."""
        if not self._taken:
            try:
                self._taken.extend(self._done.get(timeout=self._silence_s))
            except queue.Empty:
                raise DeadlineError("storing what came", after_s=self._silence_s) from None
        self.under_way -= 1
        return self._taken.popleft()

    def _work(self) -> None:
        turn: list[Job] = []
        try:
            while turn := self._next_turn():
                self._report(self._fetch(turn))
                with self._changed:
                    self._held_bytes -= _held(turn)
                    self._changed.notify_all()
        finally:
            if turn:  # what nobody foresaw ends this thread: whoever waits must hear of it
                self._done.put([Done(turn[0], sys.exc_info()[1])])

    def _report(self, fetched: Iterator[Done]) -> None:
        """Tell of several at once, since each time the other thread has to be woken; at once of what it waits for."""
        some: list[Done] = []
        told_at_s = self._clock.monotonic()
        for done in fetched:
            some.append(done)
            is_waited_for = not done.job.is_kept or done.error is not None
            is_late = self._clock.monotonic() - told_at_s > _TOLD_AFTER_S
            if is_waited_for or is_late or len(some) >= _TOLD_AT_ONCE:
                self._done.put(some)
                some = []
                told_at_s = self._clock.monotonic()
        if some:
            self._done.put(some)

    def _next_turn(self) -> list[Job]:
        """The jobs of the next turn; none when all is over."""
        with self._changed:
            while not self._is_over:
                if self._jobs and (
                    not self._held_bytes
                    or self._held_bytes + self._jobs[0].size_bytes <= _HELD_BYTES
                ):
                    turn = self._pop_turn()
                    self._held_bytes += _held(turn)
                    return turn
                self._changed.wait()
            return []

    def _pop_turn(self) -> list[Job]:
        most = max(_LEAST_JOBS, min(_MOST_JOBS, len(self._jobs) // len(self._threads)))
        turn = [self._jobs.popleft()]
        size_bytes = turn[0].size_bytes
        while self._jobs and len(turn) < most:
            size_bytes += self._jobs[0].size_bytes
            if size_bytes > _TURN_BYTES:
                break
            turn.append(self._jobs.popleft())
        return turn

    def _fetch(self, turn: Sequence[Job]) -> Iterator[Done]:
        wants = [self._want(job) for job in turn]
        left = deque(turn)
        missed = []
        deadline = Deadline.after(_patience_s(turn), self._clock)
        try:
            with closing(_fetched(self._fetcher, wants, deadline)) as fetched:
                for came in fetched:
                    job = left.popleft()
                    if self._is_over:
                        return
                    if isinstance(came, Done):
                        yield came
                    else:
                        missed.append(job)
        except CvmError as error:
            yield from (Done(job, error) for job in left)
        for job in missed:
            yield self._fetch_alone(job)

    def _want(self, job: Job) -> Want[Done]:
        return Want(_path(job), partial(_ObjectSink, job, self._store), _limit_bytes(job))

    def _fetch_alone(self, job: Job) -> Done:
        if self._is_over:
            return Done(job, CvmError("it was given up"))
        try:
            return self._fetcher.fetch_into(
                _path(job),
                lambda: _ObjectSink(job, self._store),
                limit_bytes=_limit_bytes(job),
                deadline=Deadline.after(_patience_s([job]), self._clock),
            )
        except CvmError as error:
            return Done(job, error)


class _ObjectSink(Sink[Done]):
    """Collects an object, checks its digest, and puts it."""

    def __init__(self, job: Job, store: ObjectStore) -> None:
        self._job = job
        self._store = store
        self._hasher = job.digest.algorithm.hasher()
        self._parts: list[bytes] = []

    def write(self, data: bytes, /) -> None:
        self._hasher.update(data)
        self._parts.append(data)

    def finish(self) -> Done:
        job = self._job
        got = job.digest.algorithm.finish(self._hasher)
        if got != job.digest:
            raise DigestMismatchError(
                expected=str(job.digest), got=str(got), source=f"object {_path(job)}"
            )
        stored = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        count = 0
        if job.pack is not None:
            count = put_packed(job.pack, stored, self._store)
        if job.is_kept:
            self._store.put(_path(job), stored)
            return Done(job, received_bytes=len(stored), put_objects=count + 1)
        return Done(job, stored=stored, received_bytes=len(stored), put_objects=count)

    def discard(self) -> None:
        self._parts.clear()


def _fetched(
    fetcher: Fetcher, wants: Sequence[Want[Done]], deadline: Deadline
) -> Generator[Done | CvmError, None, None]:
    yield from fetcher.fetch_many(wants, deadline=deadline)


def put_packed(pack: Pack, stored: bytes, store: ObjectStore) -> int:
    """Put the objects of a pack that are not in the store; how many were put.

    Catalogs are left out: a catalog that is there tells that all below it is.
    Errors: `ObjectFormatError`, `DigestMismatchError`.
    """
    reader = PackReader(pack)
    count = 0
    for packed, data in reader.feed(stored):
        path = object_path(packed.digest, packed.kind)
        if packed.kind is not ObjectKind.CATALOG and not store.has(path):
            store.put(path, data)
            count += 1
    reader.finish()
    return count


def _path(job: Job) -> str:
    return object_path(job.digest, job.kind)


def _limit_bytes(job: Job) -> int:
    """Compressed content may be a little larger than it was; sizes are the publisher's word only."""
    return 2 * job.size_bytes + _SPARE_BYTES


def _held(turn: Sequence[Job]) -> int:
    return sum(job.size_bytes for job in turn)


def _patience_s(turn: Sequence[Job]) -> float:
    return _TURN_S + _held(turn) / _SLOWEST_BYTES_PER_S
