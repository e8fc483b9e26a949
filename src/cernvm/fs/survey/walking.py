"""All catalogs that hang on some roots, each once, several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from cernvm.core.digest import Digest
from cernvm.core.errors import CvmError
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.references import References, read_references

Lost = Callable[[NestedCatalog, CvmError], None]


def walk(
    store: ObjectStore,
    roots: Iterable[Digest],
    seen: set[Digest],
    *,
    on_lost: Lost | None = None,
    read: Callable[[ObjectStore, NestedCatalog], References] = read_references,
) -> Iterator[References]:
    """What each catalog refers to that can be reached from `roots`, but for those in `seen`, to which it is added.

    A catalog comes after one that refers to it. `on_lost` is told of catalogs that cannot be read, and the walk goes
    on; without it their error ends the walk. Memory: the references of some catalogs, and the digests of all.
    """
    waiting = deque(NestedCatalog(b"", root, 0) for root in roots)
    running: dict[Future[References], NestedCatalog] = {}
    lanes = max(2, min(16, store.lanes))
    pool = ThreadPoolExecutor(lanes, thread_name_prefix="walk")
    try:
        while waiting or running:
            while waiting and len(running) < lanes:
                catalog = waiting.popleft()
                if catalog.digest not in seen:
                    seen.add(catalog.digest)
                    running[pool.submit(read, store, catalog)] = catalog
            if not running:
                continue
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                catalog = running.pop(future)
                try:
                    found = future.result()
                except CvmError as error:
                    if on_lost is None:
                        raise
                    on_lost(catalog, error)
                    continue
                yield found
                waiting.extend(found.nested)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
