"""The store of a repository that is passed through: what is asked for is fetched, verified, kept and handed on."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import NoReturn

from cernvm.core.clock import Clock, Deadline, SystemClock
from cernvm.core.errors import DeniedError, DigestMismatchError, HostError, NotFoundError
from cernvm.core.log import fields
from cernvm.fs.format.objects import parse_object_path
from cernvm.fs.replicate.keys import read_public_keys
from cernvm.fs.replicate.through.record import PassThrough
from cernvm.fs.replicate.through.roots import RootDocuments
from cernvm.fs.replicate.through.shelf import Shelf
from cernvm.fs.replicate.upstream import Judge
from cernvm.fs.store.port import ObjectStatus
from cernvm.net import ChainFetcher, NetSettings, fetch, open_fetcher

log = logging.getLogger(__name__)

MAX_OBJECT_BYTES = 1 << 30
_FETCH_S = 300.0
_GRACE_S = 30.0  # for whoever waits for another's request, which ends by itself
_ABSENT = (403, 404, 410)


class ThroughStore:
    """An `ObjectStore` that only reads; `open_through` makes one.

    Errors: of `get`, besides `NotFoundError`: those of the upstream (`HostError`, `DeadlineError`, `TrustError`).
    """

    location = ""
    lanes = 16

    def __init__(self, roots: RootDocuments, shelf: Shelf, fetcher: ChainFetcher) -> None:
        self.roots = roots
        self.shelf = shelf
        self._fetcher = fetcher
        self._lock = threading.Lock()
        self._flights: dict[str, Future[bytes]] = {}

    def get(self, path: str) -> bytes:
        if not path.startswith("data/"):
            return self.roots.get(path)
        kept = self.shelf.get(path)
        return self._once(path) if kept is None else kept

    def has(self, path: str) -> bool:
        try:
            self.get(path)
        except NotFoundError:
            return False
        return True

    def status(self, path: str) -> ObjectStatus | None:
        """What there is to say of a path that is here; nothing is asked of the upstream."""
        try:
            status = (self.shelf.folder / path).stat()
        except OSError:
            return None
        return ObjectStatus(status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def paths(self, prefix: str = "") -> Iterator[str]:
        return iter([path for path in self.shelf.paths() if path.startswith(prefix)])

    def listing(self, prefix: str = "") -> Iterator[tuple[str, ObjectStatus]]:
        for path in self.paths(prefix):
            if (status := self.status(path)) is not None:
                yield path, status

    def put(self, path: str, data: bytes) -> None:  # noqa: ARG002
        self._refuse()

    def replace(self, path: str, data: bytes) -> None:  # noqa: ARG002
        self._refuse()

    def delete(self, *paths: str) -> None:  # noqa: ARG002
        self._refuse()

    def exclusive(self, wait_s: float = 0.0) -> AbstractContextManager[None]:  # noqa: ARG002
        self._refuse()

    def _once(self, path: str) -> bytes:
        """An object from upstream, fetched once for all who want it at the same time."""
        with self._lock:
            flight = self._flights.get(path)
            is_first = flight is None
            if flight is None:
                flight = self._flights[path] = Future()
        if not is_first:
            return flight.result(_FETCH_S + _GRACE_S)
        try:
            data = self._fetch(path)
        except BaseException as error:
            flight.set_exception(error)
            raise
        else:
            flight.set_result(data)
            return data
        finally:
            with self._lock:
                del self._flights[path]

    def _fetch(self, path: str) -> bytes:
        digest, _ = parse_object_path(path)

        def accept(data: bytes) -> bytes:
            if (got := digest.algorithm.digest(data)) != digest:
                raise DigestMismatchError(expected=str(digest), got=str(got), source=path)
            return data

        try:
            data = fetch(
                self._fetcher,
                path,
                limit_bytes=MAX_OBJECT_BYTES,
                deadline=Deadline.after(_FETCH_S),
                accept=accept,
            )
        except HostError as error:
            if error.status in _ABSENT:
                raise NotFoundError("object", path) from None
            raise
        try:
            self.shelf.put(path, data)
        except OSError as error:  # a full disk keeps nothing, and yet nobody waits in vain
            log.warning("through.not_kept", extra=fields(reason=str(error)[:200]))
        return data

    def _refuse(self) -> NoReturn:
        raise DeniedError("a pass-through replica is filled by what is asked for, not otherwise")


def open_through(one: PassThrough, *, clock: Clock | None = None) -> ThroughStore:
    """The store of a pass-through replica; its connections end with it. Errors: `NotFoundError` for a missing key."""
    keys = read_public_keys(one.public_keys)
    fetcher = open_fetcher(NetSettings(hosts=";".join(one.urls), proxies=one.proxies), one.name)

    def judge(now: datetime) -> Judge:
        return Judge(one.name, keys, now)

    used = clock or SystemClock()
    roots = RootDocuments(one.storage, fetcher, judge, stale_s=one.stale_s, clock=used)
    store = ThroughStore(roots, Shelf(one.storage, one.limit_bytes), fetcher)
    weakref.finalize(store, fetcher.close)
    return store
