"""A repository opened for reading: one verified revision at a time, replaced as a whole."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from cernvm.core.clock import Clock, Deadline, SystemClock
from cernvm.core.digest import Digest
from cernvm.core.errors import (
    CvmError,
    DeadlineError,
    DeniedError,
    FormatError,
    RollbackError,
    SpaceError,
    TrustError,
    UnavailableError,
)
from cernvm.core.home import check_repository_name
from cernvm.core.log import fields
from cernvm.fs.cache import Breadcrumb, Breadcrumbs, Cache, ContentKey, Usage
from cernvm.fs.format.blacklist import Blacklist
from cernvm.fs.format.history import Tag
from cernvm.fs.format.manifest import DEFAULT_TTL_S, Manifest
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.signature import CryptographyVerifier
from cernvm.fs.format.trust import Verifier
from cernvm.fs.format.whitelist import Whitelist
from cernvm.fs.reader.ahead import Ahead
from cernvm.fs.reader.history import MAX_HISTORY_BYTES, read_tags
from cernvm.fs.reader.larder import Larder
from cernvm.fs.reader.objects import ObjectSource
from cernvm.fs.reader.pin import Pin, choose
from cernvm.fs.reader.revision import Revision
from cernvm.fs.reader.settings import NOTHING_AHEAD, AheadSettings
from cernvm.fs.reader.trace import Failure, Trace
from cernvm.fs.reader.tree import Catalogs, Tree
from cernvm.fs.reader.trusted import TrustedSource
from cernvm.net import Attempt, Fetcher

MIN_TTL_S = 1
MAX_TTL_S = 24 * 3600
RETRY_AFTER_S = 180.0
PINNED_LOOK_S = 180.0  # between two looks whether a pinned revision is blacklisted
_MAX_TIME_S = 253_402_300_799

log = logging.getLogger(__name__)


def open_repository(
    name: str,
    *,
    fetcher: Fetcher,
    cache: Cache,
    breadcrumbs: Breadcrumbs,
    master_keys: Sequence[bytes],
    deadline: Deadline,
    pin: Pin | None = None,
    shown: Breadcrumb | None = None,
    ahead: AheadSettings | None = None,
    blacklist: Callable[[], Blacklist] = Blacklist,
    external: Fetcher | None = None,
    second_keys: Sequence[bytes] = (),
    verifier: Verifier | None = None,
    clock: Clock | None = None,
) -> Repository:
    """Open the newest revision that verifies; without a network, or with a stale one, the last one seen.

    `shown` is one that a process before this one has verified and shown: it is shown again without asking anybody, if
    its root catalog is in the cache. With a `pin` it is that revision, for good. With `ahead` objects are fetched
    before they are asked for; the caller closes the repository. `external` fetches what lies outside of the store.

    Shape: `master_keys` are public keys as PEM, and so are `second_keys`, one of which must then have signed as well.
    Units: `deadline` bounds the whole opening.
    Errors: `TrustError` and `FormatError` when what hosts offer does not verify, `UnavailableError` when no host
    answers and nothing usable is in the cache, `InvalidInputError` for a bad name, `NotFoundError` for a pin that
    no tag fits.
    """
    repository = Repository(
        check_repository_name(name),
        fetcher=fetcher,
        cache=cache,
        breadcrumbs=breadcrumbs,
        master_keys=master_keys,
        verifier=verifier or CryptographyVerifier(),
        clock=clock or SystemClock(),
        pin=pin or Pin(),
        ahead=ahead or NOTHING_AHEAD,
        blacklist=blacklist,
        external=external,
        second_keys=second_keys,
    )
    repository.open(deadline, shown=shown)
    return repository


class Repository:
    """One repository; `revision` is what it shows now. Concurrency: safe from any thread."""

    def __init__(
        self,
        name: str,
        *,
        fetcher: Fetcher,
        cache: Cache,
        breadcrumbs: Breadcrumbs,
        master_keys: Sequence[bytes],
        verifier: Verifier,
        clock: Clock,
        pin: Pin,
        ahead: AheadSettings,
        blacklist: Callable[[], Blacklist],
        external: Fetcher | None,
        second_keys: Sequence[bytes] = (),
    ) -> None:
        self.name = name
        self.pin = pin
        self.fetcher = fetcher
        self.external = external
        self.trace = Trace()
        larder = Larder(ahead.larder_bytes)
        self.objects = ObjectSource(fetcher, cache, self.trace, larder, external)
        self.ahead = Ahead(ahead, fetcher, cache, self.objects, larder)
        self.clock = clock
        self.failure_count = 0
        self.refusal: CvmError | None = None  # why what is shown may be read no longer
        self._max_ttl_s: float = MAX_TTL_S
        self.whitelist_expires_at: datetime | None = None
        self.revision_error = ""
        self.revision_attempts: tuple[Attempt, ...] = ()
        self._cache = cache
        self._catalogs = Catalogs(self.objects, cache, on_attach=self.ahead.attached)
        self._breadcrumbs = breadcrumbs
        self._source = TrustedSource(
            name,
            fetcher,
            self.objects,
            tuple(master_keys),
            verifier,
            blacklist,
            self._note_whitelist,
            tuple(second_keys),
        )
        self._revision: Revision | None = None
        self._confirmed_at: float | None = None
        self._reload_at = 0.0
        self._reloading = threading.Lock()

    @property
    def revision(self) -> Revision:
        """What is shown now; it stays usable after it was replaced."""
        assert self._revision is not None
        return self._revision

    @property
    def max_ttl_s(self) -> float:
        """The longest time between two looks for a newer revision; a shorter one holds at once."""
        return self._max_ttl_s

    @max_ttl_s.setter
    def max_ttl_s(self, seconds: float) -> None:
        self._max_ttl_s = seconds
        self._reload_at = min(self._reload_at, self.clock.monotonic() + seconds)

    @property
    def reload_due_s(self) -> float:
        """Seconds until a newer revision should be asked for; 0 when it is due."""
        return max(0.0, self._reload_at - self.clock.monotonic())

    @property
    def confirmed_s(self) -> float | None:
        """Seconds since a server last confirmed the revision; None when none has since the opening."""
        confirmed_at = self._confirmed_at
        return None if confirmed_at is None else self.clock.monotonic() - confirmed_at

    def open(self, deadline: Deadline, *, shown: Breadcrumb | None = None) -> None:
        """Show a first revision; see `open_repository`."""
        if shown is not None and self._show_cached(shown):
            self._reload_at = self.clock.monotonic()
            return
        if self.pin.is_set:
            self._open_pinned(deadline)
            return
        try:
            self._advance(deadline)
        except (UnavailableError, RollbackError) as error:
            self._note_revision_error(error)
            seen = self._breadcrumbs.last_seen(self.name)
            if seen is not None:
                self._source.blacklist().check_revision(seen.revision, name=self.name)
            if seen is None or not self._show_cached(seen):
                raise
            log.warning(
                "repository.offline",
                extra=fields(name=self.name, revision=self.revision.number, error=str(error)),
            )

    def reload(self, deadline: Deadline) -> bool:
        """Ask for a newer revision and show it; True when the tree has changed. Failures are noted, not raised.

        `refusal` is set if what is shown after that is blacklisted by now.
        """
        try:
            return self._reload(deadline)
        finally:
            self._judge_shown()

    def _reload(self, deadline: Deadline) -> bool:
        if self.pin.is_set:
            self._reload_at = self.clock.monotonic() + PINNED_LOOK_S
            return False
        if not self._reloading.acquire(timeout=deadline.remaining_s):
            self._note_revision_error(DeadlineError("reloading", after_s=deadline.budget_s))
            return False
        try:
            return self._advance(deadline)
        except (TrustError, FormatError, UnavailableError, DeniedError) as error:
            self._note_revision_error(error)
            self._reload_at = self.clock.monotonic() + min(RETRY_AFTER_S, self._ttl_s())
            log.warning("repository.reload_failed", extra=fields(name=self.name, error=str(error)))
            return False
        finally:
            self._reloading.release()

    def _judge_shown(self) -> None:
        try:
            self._source.blacklist().check_revision(self.revision.number, name=self.name)
            self.refusal = None
        except RollbackError as error:
            self.refusal = error
            log.warning("repository.refused", extra=fields(name=self.name, error=str(error)))
        except (FormatError, DeniedError) as error:
            # Nothing newer is shown by a list that cannot be read; what it would say of this one is not known.
            self._note_revision_error(error)

    def tags(self, deadline: Deadline) -> tuple[Tag, ...]:
        """All tags, as the newest manifest has them. Errors: as `open_repository`."""
        manifest = self._source.newest_manifest(
            now=self.clock.now(),
            known=self._newest_known(),
            current_root=None,
            deadline=deadline,
            on_attempt=lambda _: None,
        )
        if manifest is None or manifest.history is None:
            return ()
        content = self.objects.get(
            ContentKey(manifest.history),
            ObjectKind.HISTORY,
            deadline,
            limit_bytes=MAX_HISTORY_BYTES,
        )
        return read_tags(content, where=f"history {manifest.history}")

    def close(self) -> None:
        """Fetch nothing more ahead."""
        self.ahead.close()

    def note_failure(self, path: bytes, error: CvmError) -> None:
        """Remember, and log, that an action on a path ended in an error."""
        self.failure_count += 1
        self.trace.add_failure(Failure(path, str(error), error.advice, self.clock.now()))
        log.warning(
            "read.failed",
            extra=fields(name=self.name, path=path.decode("utf-8", "replace"), error=str(error)),
        )

    def usage(self) -> Usage:
        """How full the cache is."""
        return self._cache.usage()

    def _advance(self, deadline: Deadline) -> bool:
        """Fetch, verify and show the newest revision; True when it is another one than before."""
        attempts: list[Attempt] = []
        current = self._revision
        try:
            manifest = self._source.newest_manifest(
                now=self.clock.now(),
                known=self._newest_known(),
                current_root=None if current is None else current.root_catalog,
                deadline=deadline,
                on_attempt=attempts.append,
            )
        finally:
            self.revision_attempts = tuple(attempts)
        if manifest is not None:
            tree = Tree(self._catalogs, manifest.root_catalog)
            tree.folder(b"", deadline)
            self._show(
                Revision(manifest.revision, manifest.root_catalog, manifest.published_at, tree)
            )
            self._leave_breadcrumb(manifest)
            log.info(
                "repository.revision", extra=fields(name=self.name, revision=manifest.revision)
            )
        self.revision_error = ""
        self._confirmed_at = self.clock.monotonic()
        self._reload_at = self._confirmed_at + self._ttl_s()
        return manifest is not None

    def _open_pinned(self, deadline: Deadline) -> None:
        root_catalog = self.pin.digest if self.pin.root_catalog else self._find_pinned(deadline)
        tree = Tree(self._catalogs, root_catalog)
        properties = tree.folder(b"", deadline).properties
        modified_s = min(properties.last_modified_s, _MAX_TIME_S)
        published = datetime.fromtimestamp(modified_s, UTC) if modified_s > 0 else None
        self._source.blacklist().check_revision(properties.revision, name=self.name)
        self._show(Revision(properties.revision, root_catalog, published, tree))
        self._reload_at = self.clock.monotonic() + PINNED_LOOK_S
        log.info("repository.pinned", extra=fields(name=self.name, revision=properties.revision))

    def _find_pinned(self, deadline: Deadline) -> Digest:
        """The root catalog that the pin means now; without a network, that which it meant last."""
        pin_name = self.pin.breadcrumb_name(self.name)
        try:
            tag = choose(self.tags(deadline), self.pin, name=self.name)
        except (UnavailableError, RollbackError) as error:
            self._note_revision_error(error)
            seen = self._breadcrumbs.last_seen(pin_name)
            if seen is None:
                raise
            log.warning("repository.offline", extra=fields(name=self.name, error=str(error)))
            return seen.root_catalog
        self._confirmed_at = self.clock.monotonic()
        tagged_s = int(tag.tagged_at.timestamp())
        self._leave(pin_name, Breadcrumb(tag.root_catalog, tagged_s, tag.revision))
        return tag.root_catalog

    def _show(self, revision: Revision) -> None:
        self._revision = revision
        self.ahead.shown(revision)

    def past(self, root_catalog: Digest) -> Revision:
        """A revision that was shown before, by its root catalog; only what lies below that is known of it."""
        return Revision(0, root_catalog, None, Tree(self._catalogs, root_catalog))

    def _show_cached(self, seen: Breadcrumb) -> bool:
        """Show a revision that was verified before, if its root catalog is still in the cache."""
        if self.objects.cached(ContentKey(seen.root_catalog)) is None:
            return False
        tree = Tree(self._catalogs, seen.root_catalog)
        try:
            if tree.try_folder(b"") is None:
                return False
        except FormatError:
            return False
        published = datetime.fromtimestamp(seen.published_s, UTC) if seen.published_s else None
        self._show(Revision(seen.revision, seen.root_catalog, published, tree))
        self._reload_at = self.clock.monotonic() + min(RETRY_AFTER_S, self._ttl_s())
        return True

    def _newest_known(self) -> Breadcrumb | None:
        """The newest revision that this process or another one on the same cache has shown."""
        seen = self._breadcrumbs.last_seen(self.name)
        shown = self._revision
        if shown is None or (seen is not None and seen.revision >= shown.number):
            return seen
        published_s = int(shown.published_at.timestamp()) if shown.published_at else 0
        return Breadcrumb(shown.root_catalog, published_s, shown.number)

    def _leave_breadcrumb(self, manifest: Manifest) -> None:
        published_s = int(manifest.published_at.timestamp()) if manifest.published_at else 0
        self._leave(self.name, Breadcrumb(manifest.root_catalog, published_s, manifest.revision))

    def _leave(self, name: str, breadcrumb: Breadcrumb) -> None:
        try:
            self._breadcrumbs.leave(name, breadcrumb)
        except SpaceError as error:
            log.warning("breadcrumb.lost", extra=fields(name=self.name, error=str(error)))

    def _ttl_s(self) -> float:
        root = self.revision.tree.root
        ttl_s = root.properties.ttl_s if root is not None else None
        return float(min(max(ttl_s or DEFAULT_TTL_S, MIN_TTL_S), self._max_ttl_s))

    def _note_whitelist(self, whitelist: Whitelist) -> None:
        self.whitelist_expires_at = whitelist.expires_at

    def _note_revision_error(self, error: CvmError) -> None:
        self.revision_error = str(error)
