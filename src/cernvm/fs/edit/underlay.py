"""The revision that is being changed, mounted from the publisher's own store: no server has to run for it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeadlineError, HostError, NotFoundError
from cernvm.core.linux import limit_heaps
from cernvm.fs.client import open_client
from cernvm.fs.mount import LiveMount, MountSettings
from cernvm.fs.mount.mounting import serve_mount
from cernvm.fs.store.opening import open_store
from cernvm.fs.store.port import ObjectStore
from cernvm.net import Chain, ChainFetcher, Link
from cernvm.net.failover import Route
from cernvm.net.memory import MemoryAnswer
from cernvm.net.terms import PLAIN, Terms

STORE_HOST = "http://store.invalid"  # no request leaves this process


class StoreExchange:
    """A store's objects as the answers of a server: an `Exchange`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @contextmanager
    def get(
        self, route: Route, path: str, *, deadline: Deadline, terms: Terms = PLAIN
    ) -> Iterator[MemoryAnswer]:
        url = f"{route.host}/{path}"
        if deadline.has_passed:
            raise DeadlineError(f"reading {path}", after_s=deadline.budget_s)
        try:
            answer = MemoryAnswer(url, 200, self._store.get(path)).ranged(terms.byte_range)
        except NotFoundError:
            answer = MemoryAnswer(url, 404, b"")
        except (HostError, DeadlineError):
            raise
        except CvmError as error:
            raise HostError(url, error.what) from error
        yield answer

    def get_many(
        self, route: Route, paths: Sequence[str], *, deadline: Deadline
    ) -> Generator[MemoryAnswer | HostError | DeadlineError, None, None]:
        for path in paths:
            try:
                with self.get(route, path, deadline=deadline) as answer:
                    yield answer
            except (HostError, DeadlineError) as error:
                yield error

    @property
    def link(self) -> Link:
        """A store has no link that is worth measuring."""
        return Link()

    def close(self) -> None:
        """Nothing is open."""


def mount_base(
    settings: MountSettings, store: ObjectStore, ready: Callable[[LiveMount], None]
) -> None:
    """Mount what `store` holds, and serve it until it is unmounted. Errors: those of `mount_repository`."""
    limit_heaps()
    # this process was forked, and its parent's connections were closed in it
    ours = open_store(store.location) if store.location else store
    fetcher = ChainFetcher(Chain((STORE_HOST,)), StoreExchange(ours))
    with open_client(settings.client, source=fetcher) as client:
        serve_mount(settings, client, ready=ready)
