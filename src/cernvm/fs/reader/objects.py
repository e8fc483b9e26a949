"""Objects by digest: from the cache, from what came ahead, or through fetcher and digest check; each once at a time."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from cernvm.core.clock import Deadline
from cernvm.core.digest import Digest
from cernvm.core.errors import (
    CvmError,
    DeadlineError,
    FormatError,
    PrerequisiteError,
    TrustError,
    UnavailableError,
)
from cernvm.core.log import fields
from cernvm.fs.cache import Cache, Content, ContentKey, Rank
from cernvm.fs.format.objects import ObjectKind, alternative_path, object_path
from cernvm.fs.reader.drafts import SMALL_BYTES, SmallObject, VerifiedDraft, content_of
from cernvm.fs.reader.larder import Larder, Origin, Ration
from cernvm.fs.reader.pieces import Elsewhere, Piece
from cernvm.fs.reader.trace import Trace
from cernvm.net import Attempt, Credentials, Fetcher, Sink, Urgency

MAX_STOCKED = 4096
MAX_LATELY = 4096
# A single request takes its round trip, and then some: what comes ahead must come within this to be waited for.
_PATIENCE_MIN_S, _PATIENCE_MAX_S = 0.01, 1.0
_USUAL_BYTES_PER_S = 12_500_000

log = logging.getLogger(__name__)


class ObjectSource:
    """Where the reader gets objects. Concurrency: safe from any thread; requests for one object share one fetch."""

    def __init__(
        self,
        fetcher: Fetcher,
        cache: Cache,
        trace: Trace,
        larder: Larder | None = None,
        external: Fetcher | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._external = external
        self._cache = cache
        self._trace = trace
        self._larder = larder or Larder(0)
        self._flights: dict[str, _Flight] = {}
        self._stocked: OrderedDict[str, tuple[Origin, int]] = OrderedDict()
        self._lately: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()
        self.rank = Rank.REGULAR
        # What proves to servers that whoever asks in this thread may read; of protected repositories.
        self.credentials: Callable[[], Credentials | None] = lambda: None
        # What lies outside of `data/` as well, as the manifest says: its root catalog and certificate.
        self.alternatives: frozenset[Digest] = frozenset()
        # Whoever wants to know that an object is read, by its raw digest; profiles do.
        self.watched: dict[bytes, Callable[[], None]] = {}

    def cached(
        self, key: ContentKey, size_bytes: int | None = None, *, limit_bytes: int | None = None
    ) -> Content | None:
        """The content if it is at hand; a cached file of the wrong size is damaged and goes."""
        raw = key.digest.raw
        if (tell := self.watched.get(raw)) is not None:
            tell()
        if size_bytes is not None and raw in self._larder:
            content = self._take(key, size_bytes)
            if content is not None:
                return content
        content = self._cache.open(key)
        if content is None:
            return None
        is_wrong = size_bytes is not None and content.size_bytes != size_bytes
        if is_wrong or (limit_bytes is not None and content.size_bytes > limit_bytes):
            log.warning("cache.damaged", extra=fields(name=key.name, size=content.size_bytes))
            self._cache.evict(key)
            return None
        if self._stocked:
            self._note_stocked(key)
        return content

    def get(
        self,
        key: ContentKey,
        kind: ObjectKind,
        deadline: Deadline,
        *,
        size_bytes: int | None = None,
        limit_bytes: int = 0,
        elsewhere: Elsewhere | None = None,
    ) -> Content:
        """The content, fetched if need be: of exactly `size_bytes` where that is known, else of at most `limit_bytes`.

        Errors: `DigestMismatchError`, `ObjectFormatError` when no host has the right object, `HostError`,
        `DeadlineError`, `SpaceError`; `PrerequisiteError` for external data of which no host is known.
        """
        limit_bytes = limit_bytes if size_bytes is None else size_bytes
        while (content := self.cached(key, size_bytes, limit_bytes=limit_bytes)) is None:
            if self._comes_ahead(key, kind, size_bytes, limit_bytes, deadline):
                continue
            flight, is_mine = self._board(key, ahead=False)
            if is_mine:
                return self._fly(flight, key, kind, deadline, size_bytes, limit_bytes, elsewhere)
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

    def get_piece(self, piece: Piece, deadline: Deadline) -> Content:
        """The content of a piece of a file. Errors: as `get`."""
        size_bytes, elsewhere = piece.size_bytes, piece.elsewhere
        return self.get(piece.key, piece.kind, deadline, size_bytes=size_bytes, elsewhere=elsewhere)

    def fetch_ahead(
        self,
        key: ContentKey,
        kind: ObjectKind,
        deadline: Deadline,
        *,
        size_bytes: int | None,
        limit_bytes: int,
        origin: Origin,
        origin_bytes: int = 0,
    ) -> int:
        """Bring an object into the cache before anybody asks; its size, 0 when it is there or on its way already.

        `origin_bytes` is what `origin` is told when it is used.

        Errors: as `get`.
        """
        flight, is_mine = (None, False) if self.holds(key) else self._board(key, ahead=True)
        if flight is None or not is_mine:
            return 0
        content = self._fly(flight, key, kind, deadline, size_bytes, limit_bytes)
        self.note_ahead(key, origin, origin_bytes)
        return content.size_bytes

    def drop_damaged(self, piece: Piece) -> None:
        """Have a piece fetched again whose file in the cache was cut short under its readers."""
        log.warning("cache.damaged", extra=fields(name=piece.key.name))
        self._cache.evict(piece.key)

    def holds(self, key: ContentKey) -> bool:
        """Whether the cache has it."""
        return self._cache.open(key) is not None

    def was_fetched_lately(self, raw_digest: bytes) -> bool:
        """Whether an object came singly not long ago, so that one that comes ahead is of no use."""
        return raw_digest in self._lately

    def is_on_its_way(self, key: ContentKey) -> bool:
        """Whether somebody is fetching it."""
        return key.name in self._flights

    def stock(self, ration: Ration) -> None:
        """Put an object that came ahead, and that nobody asked for yet, into the cache; a bad one is dropped."""
        if self.holds(ration.key):
            return
        try:
            data = content_of(ration.key, ration.stored, None, ration.content_bytes)
        except FormatError:
            return
        self._cache.put_small(ration.key, data, rank=Rank.AHEAD)
        self.note_ahead(ration.key, ration.origin, len(ration.stored))

    def note_ahead(self, key: ContentKey, origin: Origin, size_bytes: int) -> None:
        """Tell `origin` when this content of the cache is read for the first time."""
        with self._lock:
            self._stocked[key.name] = (origin, size_bytes)
            if len(self._stocked) > MAX_STOCKED:
                self._stocked.popitem(last=False)

    def _note_stocked(self, key: ContentKey) -> None:
        with self._lock:
            found = self._stocked.pop(key.name, None)
        if found is not None:
            found[0].used(found[1])

    def _take(self, key: ContentKey, size_bytes: int) -> Content | None:
        """Content from the larder, handed out before it is on disk."""
        ration = self._larder.take(key.digest.raw)
        if ration is None or ration.key.digest != key.digest:
            return None
        ration.origin.used(len(ration.stored))
        try:
            data = content_of(key, ration.stored, size_bytes, size_bytes)
        except FormatError:
            return None  # whoever fetches it singly hears what is wrong with it
        return self._cache.put_small(key, data, rank=self.rank)

    def _comes_ahead(
        self,
        key: ContentKey,
        kind: ObjectKind,
        size_bytes: int | None,
        limit_bytes: int,
        deadline: Deadline,
    ) -> bool:
        """Whether something under way has brought the object sooner than a request of its own would."""
        patience_s = min(self._single_s(size_bytes or 0), deadline.remaining_s)
        if self._larder.wait(key.digest.raw, patience_s):
            if size_bytes is not None:
                return True
            return self._take_whole(key, kind, limit_bytes)
        flight = self._flights.get(key.name)
        if flight is None or not flight.is_ahead:
            return False
        # A large object: its flight has begun before ours could, so it gets the time that ours would take.
        return flight.landed.wait(patience_s) and flight.error is None

    def _take_whole(self, key: ContentKey, kind: ObjectKind, limit_bytes: int) -> bool:
        """Move a catalog from the larder into the cache, where it needs to be a file."""
        ration = self._larder.take(key.digest.raw)
        if ration is None or ration.key.digest != key.digest:
            return False
        ration.origin.used(len(ration.stored))
        path = object_path(key.digest, kind)
        sink = VerifiedDraft(self._cache.draft(key, rank=self.rank), key, path, None, limit_bytes)
        try:
            sink.write(ration.stored)
            sink.finish()
        except FormatError:
            return False
        finally:
            sink.discard()
        return True

    def _single_s(self, size_bytes: int) -> float:
        """About how long a request of its own would take."""
        link = self._fetcher.link
        transfer_s = size_bytes / (link.bytes_per_s or _USUAL_BYTES_PER_S)
        return min(max(1.2 * link.rtt_s + transfer_s, _PATIENCE_MIN_S), _PATIENCE_MAX_S)

    def _board(self, key: ContentKey, *, ahead: bool) -> tuple[_Flight, bool]:
        """The flight that brings an object; a reader does not board one that was sent ahead and is late."""
        with self._lock:
            flight = self._flights.get(key.name)
            if flight is not None and (ahead or not flight.is_ahead):
                return flight, False
            flight = self._flights[key.name] = _Flight(ahead)
            return flight, True

    def _fly(
        self,
        flight: _Flight,
        key: ContentKey,
        kind: ObjectKind,
        deadline: Deadline,
        size_bytes: int | None,
        limit_bytes: int,
        elsewhere: Elsewhere | None = None,
    ) -> Content:
        try:
            # Between the look into the cache and the boarding another flight may have landed.
            content = None
            if not flight.is_ahead:
                content = self.cached(key, size_bytes, limit_bytes=limit_bytes)
            if content is None:
                ahead = flight.is_ahead
                content = self._fetch(
                    key, kind, deadline, size_bytes, limit_bytes, elsewhere, ahead=ahead
                )
        except CvmError as error:
            flight.error = error
            raise
        else:
            flight.content = content
            return content
        finally:
            with self._lock:
                if self._flights.get(key.name) is flight:
                    del self._flights[key.name]
            flight.landed.set()

    def _fetch(
        self,
        key: ContentKey,
        kind: ObjectKind,
        deadline: Deadline,
        size_bytes: int | None,
        limit_bytes: int,
        elsewhere: Elsewhere | None,
        *,
        ahead: bool,
    ) -> Content:
        if elsewhere is None and key.digest in self.alternatives:
            beside = Elsewhere(alternative_path(key.digest, kind))
            with suppress(UnavailableError, TrustError, FormatError):
                return self._ask(
                    self._fetcher, beside, key, deadline, size_bytes, limit_bytes, ahead=ahead
                )
        fetcher = self._fetcher
        if elsewhere is not None:
            fetcher = self._external_of(elsewhere)
        place = elsewhere or Elsewhere(object_path(key.digest, kind))
        return self._ask(fetcher, place, key, deadline, size_bytes, limit_bytes, ahead=ahead)

    def _external_of(self, elsewhere: Elsewhere) -> Fetcher:
        if self._external is None:
            raise PrerequisiteError(
                f"/{elsewhere.path} lies outside of its repository, and no host of external data is known",
                advice="name one with --external-url, or as CVMFS_EXTERNAL_URL",
            )
        return self._external

    def _ask(
        self,
        fetcher: Fetcher,
        place: Elsewhere,
        key: ContentKey,
        deadline: Deadline,
        size_bytes: int | None,
        limit_bytes: int,
        *,
        ahead: bool,
    ) -> Content:
        path = place.path
        attempts: list[Attempt] = []
        rank = Rank.AHEAD if ahead else self.rank

        def note(attempt: Attempt) -> None:
            attempts.append(attempt)
            if attempt.error and not ahead:  # whoever asks why must not wait for the end
                self._trace.add_attempts(path, attempts)

        def open_sink() -> Sink[Content]:
            if size_bytes is not None and size_bytes <= SMALL_BYTES:
                return SmallObject(self._cache, key, path, size_bytes, rank)
            draft = self._cache.draft(key, rank=rank)
            return VerifiedDraft(draft, key, path, size_bytes, limit_bytes)

        try:
            content = fetcher.fetch_into(
                path,
                open_sink,
                limit_bytes=stored_limit(limit_bytes),
                deadline=deadline,
                on_attempt=note,
                urgency=Urgency.BACKGROUND if ahead else Urgency.FOREGROUND,
                byte_range=place.byte_range,
                credentials=self.credentials(),
            )
        finally:
            if not ahead and (len(attempts) != 1 or attempts[0].error):
                self._trace.add_attempts(path, attempts)
        with self._lock:
            self._lately[key.digest.raw] = None
            if len(self._lately) > MAX_LATELY:
                self._lately.popitem(last=False)
        log.debug("object.fetched", extra=fields(path=path, size=content.size_bytes))
        return content


@dataclass(slots=True)
class _Flight:
    """One fetch under way, and what came of it; `is_ahead` when nobody waited for it as it began."""

    is_ahead: bool = False
    landed: threading.Event = field(default_factory=threading.Event)
    content: Content | None = None
    error: CvmError | None = None


def stored_limit(content_limit_bytes: int) -> int:
    """How long a stored object may be whose content has a limit: zlib grows what it cannot shrink by a little."""
    return content_limit_bytes + content_limit_bytes // 64 + 1024
