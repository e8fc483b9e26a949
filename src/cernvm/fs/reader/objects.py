"""Objects by digest: from the cache, or through fetcher and digest check into the cache, each once at a time."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from cernvm.core.clock import Deadline
from cernvm.core.errors import (
    CvmError,
    DeadlineError,
    DigestMismatchError,
    ObjectFormatError,
)
from cernvm.core.log import fields
from cernvm.fs.cache import Cache, Content, ContentKey
from cernvm.fs.cache.port import Draft
from cernvm.fs.format.compress import Inflater
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.reader.trace import Trace
from cernvm.net import Attempt, Fetcher, Sink

log = logging.getLogger(__name__)


class ObjectSource:
    """Where the reader gets objects. Concurrency: safe from any thread; requests for one object share one fetch."""

    def __init__(self, fetcher: Fetcher, cache: Cache, trace: Trace) -> None:
        self._fetcher = fetcher
        self._cache = cache
        self._trace = trace
        self._flights: dict[str, _Flight] = {}
        self._lock = threading.Lock()

    def cached(self, key: ContentKey, size_bytes: int | None = None) -> Content | None:
        """The content if it is at hand; a cached file of another size than `size_bytes` is damaged and goes."""
        content = self._cache.open(key)
        if content is not None and size_bytes is not None and content.size_bytes != size_bytes:
            log.warning("cache.damaged", extra=fields(name=key.name, size=content.size_bytes))
            self._cache.evict(key)
            return None
        return content

    def get(
        self,
        key: ContentKey,
        kind: ObjectKind,
        deadline: Deadline,
        *,
        size_bytes: int | None = None,
        limit_bytes: int = 0,
    ) -> Content:
        """The content, fetched if need be: of exactly `size_bytes` where that is known, else of at most `limit_bytes`.

        Errors: `DigestMismatchError`, `ObjectFormatError` when no host has the right object, `HostError`,
        `DeadlineError`, `SpaceError`.
        """
        limit_bytes = limit_bytes if size_bytes is None else size_bytes
        while (content := self.cached(key, size_bytes)) is None:
            flight, is_mine = self._board(key)
            if is_mine:
                return self._fly(flight, key, kind, deadline, size_bytes, limit_bytes)
            if not flight.landed.wait(deadline.remaining_s):
                raise DeadlineError(
                    f"waiting for {object_path(key.digest, kind)}", after_s=deadline.budget_s
                )
            if flight.error is not None and not isinstance(flight.error, DeadlineError):
                raise flight.error
            # The other's time may have been shorter than ours: look again, and fetch if need be.
            if flight.content is not None and size_bytes in (None, flight.content.size_bytes):
                return flight.content
            deadline.check(f"waiting for {object_path(key.digest, kind)}")
        return content

    def _board(self, key: ContentKey) -> tuple[_Flight, bool]:
        with self._lock:
            flight = self._flights.get(key.name)
            if flight is not None:
                return flight, False
            flight = self._flights[key.name] = _Flight()
            return flight, True

    def _fly(
        self,
        flight: _Flight,
        key: ContentKey,
        kind: ObjectKind,
        deadline: Deadline,
        size_bytes: int | None,
        limit_bytes: int,
    ) -> Content:
        try:
            # Between the look into the cache and the boarding another flight may have landed.
            content = self.cached(key, size_bytes) or self._fetch(
                key, kind, deadline, size_bytes, limit_bytes
            )
        except CvmError as error:
            flight.error = error
            raise
        else:
            flight.content = content
            return content
        finally:
            with self._lock:
                del self._flights[key.name]
            flight.landed.set()

    def _fetch(
        self,
        key: ContentKey,
        kind: ObjectKind,
        deadline: Deadline,
        size_bytes: int | None,
        limit_bytes: int,
    ) -> Content:
        path = object_path(key.digest, kind)
        attempts: list[Attempt] = []
        try:
            content = self._fetcher.fetch_into(
                path,
                lambda: VerifiedDraft(self._cache.draft(key), key, path, size_bytes, limit_bytes),
                limit_bytes=_stored_limit(limit_bytes),
                deadline=deadline,
                on_attempt=attempts.append,
            )
        finally:
            if len(attempts) != 1 or attempts[0].error:
                self._trace.add_attempts(path, attempts)
        log.debug("object.fetched", extra=fields(path=path, size=content.size_bytes))
        return content


class VerifiedDraft(Sink[Content]):
    """Takes stored bytes, and gives content only once their digest is right."""

    def __init__(
        self, draft: Draft, key: ContentKey, path: str, size_bytes: int | None, limit_bytes: int
    ) -> None:
        self._draft = draft
        self._key = key
        self._path = path
        self._size_bytes = size_bytes
        self._hasher = key.digest.algorithm.hasher()
        self._inflater = Inflater(key.compression, limit_bytes=limit_bytes)
        self._written_bytes = 0
        self._damage: ObjectFormatError | None = None

    def write(self, data: bytes, /) -> None:
        self._hasher.update(data)
        if self._damage is not None:
            return
        try:
            for piece in self._inflater.feed(data):
                self._written_bytes += len(piece)
                self._draft.write(piece)
        except ObjectFormatError as error:
            # Nothing more is inflated; whether the host lied is for the digest to say.
            self._damage = error

    def finish(self) -> Content:
        got = self._key.digest.algorithm.finish(self._hasher)
        if got != self._key.digest:
            raise DigestMismatchError(
                expected=str(self._key.digest), got=str(got), source=self._path
            )
        if self._damage is not None:
            raise ObjectFormatError(self._damage.reason, where=self._path)
        self._inflater.finish()
        if self._size_bytes not in (None, self._written_bytes):
            raise ObjectFormatError(
                f"it holds {self._written_bytes} bytes, its catalog says {self._size_bytes}",
                where=self._path,
            )
        return self._draft.commit()

    def discard(self) -> None:
        self._draft.discard()


@dataclass(slots=True)
class _Flight:
    """One fetch under way, and what came of it."""

    landed: threading.Event = field(default_factory=threading.Event)
    content: Content | None = None
    error: CvmError | None = None


def _stored_limit(content_limit_bytes: int) -> int:
    """How long a stored object may be whose content has a limit: zlib grows what it cannot shrink by a little."""
    return content_limit_bytes + content_limit_bytes // 64 + 1024
