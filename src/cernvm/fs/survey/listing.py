"""A store's objects, drawer by drawer (`marks`): several folders are listed ahead where asking takes its time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from cernvm.fs.store.port import ObjectStatus, ObjectStore
from cernvm.fs.survey.marks import DRAWERS, drawer_prefix

Listed = list[tuple[str, ObjectStatus]]
_MOST_LANES = 16


def list_drawers(store: ObjectStore) -> Iterator[tuple[int, Listed]]:
    """What lies in each drawer, all of it that is there when its turn comes; errors as the store's."""
    lanes = max(1, min(_MOST_LANES, store.lanes))
    pool = ThreadPoolExecutor(lanes, thread_name_prefix="list")
    waiting: deque[tuple[int, Future[Listed]]] = deque()
    try:
        for number in range(DRAWERS):
            waiting.append((number, pool.submit(_list, store, number)))
            if len(waiting) > lanes:
                yield _taken(waiting)
        while waiting:
            yield _taken(waiting)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _taken(waiting: deque[tuple[int, Future[Listed]]]) -> tuple[int, Listed]:
    number, future = waiting.popleft()
    return number, future.result()


def _list(store: ObjectStore, number: int) -> Listed:
    return list(store.listing(drawer_prefix(number)))
