"""The store of somebody who publishes through a gateway, and where their revisions go.

Reading is asking the public web server; `exclusive` is a lease, kept alive while it is held and given up if nothing was
committed; `put` collects objects, asks which of them are missing, and sends those in packs, a few packs at once. Where
the publisher may write to the real store itself, objects go there, and only the commit through the gateway.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import NoReturn

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.digest import parse_digest
from cernvm.core.errors import (
    CvmError,
    DeniedError,
    FormatError,
    LeaseLostError,
    UnavailableError,
)
from cernvm.core.log import fields
from cernvm.fs.format.history import Tag, automatic_name
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import parse_object_path
from cernvm.fs.gateway.client import Committed, GatewayClient, Given
from cernvm.fs.gateway.lease import LeasePath, PathBusyError
from cernvm.fs.gateway.object_pack import SentObject
from cernvm.fs.gateway.protocol import CommitRequest
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import Written, read_manifest
from cernvm.fs.publish.sink import Served, check_new_tag, names
from cernvm.fs.store.port import ObjectStatus, ObjectStore
from cernvm.fs.survey.reading import read_tags

log = logging.getLogger(__name__)

LEASE_S = 300
_REFRESHES = 3  # within a lease's time
_BUSY_POLL_S = 1.0
_PACK_BYTES = 16 << 20
_PACK_OBJECTS = 2000
_SENDERS = 4
_MOST_KNOWN = 300_000
_WAITING_PACKS = 6

_Batch = dict[str, bytes]


class RemoteStore:
    """An `ObjectStore` behind a gateway, for one publication below `path`."""

    def __init__(
        self,
        client: GatewayClient,
        public: ObjectStore,
        path: LeasePath,
        *,
        direct: ObjectStore | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.location = ""
        self.lanes = public.lanes
        self._client = client
        self._public = public
        self._path = path
        self._direct = direct
        self._clock = clock or SystemClock()
        self._lease: Given | None = None
        self._lost: CvmError | None = None
        self._is_committed = False
        self._lock = threading.Lock()
        self._batch: _Batch = {}
        self._batch_bytes = 0
        self._sent: set[bytes] = set()
        self._under_way: list[_Batch] = []
        self._slots = threading.BoundedSemaphore(_WAITING_PACKS)
        self._senders: ThreadPoolExecutor | None = None
        self._sending: list[Future[None]] = []

    def put(self, path: str, data: bytes) -> None:
        digest, kind = parse_object_path(path)
        with self._lock:
            self._check()
            key = digest.raw + kind.value.encode()
            if key in self._sent:
                return
            if len(self._sent) >= _MOST_KNOWN:
                self._sent.clear()  # the gateway is asked what is missing anyway
            self._sent.add(key)
            if self._direct is None:
                self._batch[path] = bytes(data)
                self._batch_bytes += len(data)
            is_full = self._batch_bytes >= _PACK_BYTES or len(self._batch) >= _PACK_OBJECTS
            batch = self._taken() if is_full else {}
        if self._direct is not None and not self._direct.has(path):
            self._direct.put(path, data)
        if batch:
            self._hand_over(batch)

    def get(self, path: str) -> bytes:
        with self._lock:
            for batch in (self._batch, *self._under_way):
                if path in batch:
                    return batch[path]
        return self._public.get(path)

    def has(self, path: str) -> bool:
        # what is not known to be there is sent: the gateway is asked for many at once
        try:
            digest, kind = parse_object_path(path)
        except FormatError:
            return self._public.has(path)
        with self._lock:
            return digest.raw + kind.value.encode() in self._sent

    def replace(self, path: str, data: bytes) -> None:  # noqa: ARG002
        _refuse(path)

    def delete(self, *paths: str) -> None:
        _refuse(*paths)

    def status(self, path: str) -> ObjectStatus | None:
        return self._public.status(path)

    def paths(self, prefix: str = "") -> Iterator[str]:
        return self._public.paths(prefix)

    def listing(self, prefix: str = "") -> Iterator[tuple[str, ObjectStatus]]:
        return self._public.listing(prefix)

    @contextmanager
    def exclusive(self, wait_s: float = 0.0) -> Iterator[None]:
        self._lease = self._leased(wait_s)
        self._lost, self._is_committed = None, False
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(ended,), name="lease", daemon=True)
        self._senders = ThreadPoolExecutor(_SENDERS, thread_name_prefix="gateway")
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            self._senders.shutdown(wait=True, cancel_futures=True)
            keeper.join()
            if not self._is_committed:
                with suppress(CvmError):  # it runs out by itself
                    self._client.cancel(self._lease.token)

    def commit(self, request: CommitRequest) -> Committed:
        """Send what is left, and have it merged."""
        with self._lock:
            batch = self._taken()
        if batch:
            self._hand_over(batch)
        for sent in self._sending:
            sent.result()
        self._check()
        assert self._lease is not None
        committed = self._client.commit(self._lease.token, request)
        self._is_committed = True
        return committed

    def _leased(self, wait_s: float) -> Given:
        until = self._clock.monotonic() + wait_s
        hostname = socket.gethostname()
        while True:
            try:
                return self._client.lease(self._path, hostname=hostname, ttl_s=LEASE_S)
            except PathBusyError as error:
                left_s = until - self._clock.monotonic()
                if left_s <= 0:
                    raise
                self._clock.sleep(min(_BUSY_POLL_S, left_s, error.left_s))

    def _keep(self, ended: threading.Event) -> None:
        """Refresh the lease until the end; a publication under a lost one must not go on."""
        assert self._lease is not None
        while not ended.wait(self._lease.ttl_s / _REFRESHES):
            try:
                self._client.refresh(self._lease.token)
            except LeaseLostError as error:
                self._lost = error
                return
            except UnavailableError as error:
                log.warning("lease.not_refreshed", extra=fields(reason=str(error)[:200]))
            except CvmError as error:
                # a gateway that refreshes none gives long leases
                log.info("lease.never_refreshed", extra=fields(reason=str(error)[:200]))
                return

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost
        for sent in self._sending:
            if sent.done() and (error := sent.exception()) is not None:
                raise error
        self._sending = [sent for sent in self._sending if not sent.done()]

    def _taken(self) -> _Batch:
        batch, self._batch, self._batch_bytes = self._batch, {}, 0
        return batch

    def _hand_over(self, batch: _Batch) -> None:
        """Send a batch in the background; waits while too many are under way."""
        assert self._senders is not None
        self._slots.acquire()
        with self._lock:
            self._under_way.append(batch)
        sending = self._senders.submit(self._send, batch)
        sending.add_done_callback(lambda _: self._arrived(batch))
        with self._lock:
            self._sending.append(sending)

    def _arrived(self, batch: _Batch) -> None:
        with self._lock:
            self._under_way = [one for one in self._under_way if one is not batch]
        self._slots.release()

    def _send(self, batch: _Batch) -> None:
        assert self._lease is not None
        wanted = self._client.missing(self._lease.token, list(batch))
        objects = []
        for path in wanted:
            digest, kind = parse_object_path(path)
            objects.append((SentObject(digest, kind, len(batch[path])), batch[path]))
        if objects:
            self._client.send(self._lease.token, objects)


class GatewaySink:
    """Where the revisions of such a store go: to the gateway, which merges them into the last one."""

    def __init__(self, repository: Repository, store: RemoteStore) -> None:
        self._repository = repository
        self._store = store
        self._tags: tuple[Tag, ...] = ()

    def begin(self, tag: str) -> Manifest:
        manifest = read_manifest(self._repository, self._store)
        if tag:
            self._tags = read_tags(manifest, self._store)
            if not names(tag, manifest.root_catalog, self._tags):
                check_new_tag(tag, self._tags)
        return manifest

    def finish(
        self, root: Written, *, base: Manifest, tag: str, description: str, now: datetime
    ) -> Served:
        if names(tag, root.digest, self._tags):
            return Served(base, (tag,), 0)
        check_new_tag(tag, self._tags)
        request = CommitRequest(base.root_catalog, root.digest, tag, description)
        committed = self._store.commit(request)
        manifest = replace(base, revision=committed.revision, published_at=now)
        if committed.root:
            manifest = replace(manifest, root_catalog=parse_digest(committed.root))
        return Served(manifest, (tag or automatic_name(now),), root.stored_bytes)


def _refuse(*paths: str) -> NoReturn:
    raise DeniedError(f"{', '.join(paths)[:200]}: a gateway's publisher only adds objects")
