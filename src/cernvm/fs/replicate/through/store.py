"""The store of a repository that is passed through: what is asked for is fetched, verified, kept and handed on."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from cernvm.core.clock import Clock, Deadline, SystemClock
from cernvm.core.errors import DeniedError, HostError, NotFoundError, UnavailableError
from cernvm.core.log import fields
from cernvm.fs.format.objects import ObjectKind, parse_object_path
from cernvm.fs.replicate.through.record import PassThrough
from cernvm.fs.replicate.through.roots import RootDocuments
from cernvm.fs.replicate.through.shelf import Shelf
from cernvm.fs.replicate.through.spool import Spool
from cernvm.fs.replicate.upstream import Judge, read_judge
from cernvm.fs.store.parts import MemoryParts, Parts, read_whole
from cernvm.fs.store.port import ObjectStatus
from cernvm.net import ChainFetcher, NetSettings, open_fetcher

log = logging.getLogger(__name__)

MAX_OBJECT_BYTES = 1 << 30
_FETCH_S = 300.0
_GRACE_S = 30.0  # for whoever waits for another's request, which ends by itself
_TURNS = 8
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
        self._flights: dict[str, Future[bytes | None]] = {}

    def get(self, path: str) -> bytes:
        if not path.startswith("data/"):
            return self.roots.get(path)
        parts = self.open(path)
        try:
            return read_whole(parts)
        finally:
            parts.close()

    def open(self, path: str) -> Parts:
        if not path.startswith("data/"):
            return MemoryParts(self.roots.get(path))
        for _ in range(_TURNS):
            parts = self.shelf.open(path) or self._once(path)
            if parts is not None:
                return parts
        raise UnavailableError(f"{path} is too big to be kept, and several ask for it")

    def has(self, path: str) -> bool:
        try:
            self.open(path).close()
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

    def _once(self, path: str) -> Parts | None:
        """An object from upstream, fetched once for all who want it at the same time.

        A big one only who came first gets in hand; for the others it should be kept by then.
        """
        with self._lock:
            flight = self._flights.get(path)
            is_first = flight is None
            if flight is None:
                flight = self._flights[path] = Future()
        if not is_first:
            data = flight.result(_FETCH_S + _GRACE_S)
            return None if data is None else MemoryParts(data)
        try:
            parts = self._fetch(path)
        except BaseException as error:
            flight.set_exception(error)
            raise
        else:
            flight.set_result(parts.data if isinstance(parts, MemoryParts) else None)
            return parts
        finally:
            with self._lock:
                del self._flights[path]

    def _fetch(self, path: str) -> Parts:
        digest, kind = parse_object_path(path)

        def accept(parts: Parts) -> None:
            if kind is ObjectKind.CATALOG:
                self.roots.check_catalog(digest, parts)

        def keep(file: Path) -> None:
            self._try_to_keep(lambda: self.shelf.take(path, file))

        try:
            parts = self._fetcher.fetch_into(
                path,
                lambda: Spool(digest, self.shelf.temporary, accept=accept, keep=keep),
                limit_bytes=MAX_OBJECT_BYTES,
                deadline=Deadline.after(_FETCH_S),
            )
        except HostError as error:
            if error.status in _ABSENT:
                raise NotFoundError("object", path) from None
            raise
        if isinstance(parts, MemoryParts):
            small = parts.data
            self._try_to_keep(lambda: self.shelf.put(path, small))
        return parts

    def _try_to_keep(self, keep: Callable[[], None]) -> None:
        """A full disk keeps nothing, and yet nobody waits in vain."""
        try:
            keep()
        except OSError as error:
            log.warning("through.not_kept", extra=fields(reason=str(error)[:200]))

    def _refuse(self) -> NoReturn:
        raise DeniedError("a pass-through replica is filled by what is asked for, not otherwise")


def open_through(one: PassThrough, *, clock: Clock | None = None) -> ThroughStore:
    """The store of a pass-through replica; its connections end with it. Errors: `NotFoundError` for a missing key."""
    judge_then = read_judge(
        one.name,
        public_keys=one.public_keys,
        second_keys=one.second_keys,
        now=(clock or SystemClock()).now(),
    )
    fetcher = open_fetcher(NetSettings(hosts=";".join(one.urls), proxies=one.proxies), one.name)

    def judge(now: datetime) -> Judge:
        return replace(judge_then, now=now)

    used = clock or SystemClock()
    roots = RootDocuments(one.storage, fetcher, judge, stale_s=one.stale_s, clock=used)
    store = ThroughStore(roots, Shelf(one.storage, one.limit_bytes), fetcher)
    weakref.finalize(store, fetcher.close)
    return store
