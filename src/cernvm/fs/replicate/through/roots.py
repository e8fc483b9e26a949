"""Root documents of a repository that is passed through: verified before they are passed on, and never older ones.

They are asked for again once they are a minute old. While no upstream answers as it should, the last ones are served
for as long as is allowed; their whitelist limits that as well, for clients judge it themselves.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from cernvm.core.clock import Clock, Deadline
from cernvm.core.digest import Digest
from cernvm.core.errors import CvmError, FormatError, NotFoundError, TrustError, UnavailableError
from cernvm.core.home import ensure_folder, write_atomically
from cernvm.core.log import fields
from cernvm.fs.format.objects import MANIFEST_PATH, WHITELIST_PATH
from cernvm.fs.replicate.upstream import Judge, Offer, read_offer
from cernvm.fs.store.parts import Parts, read_whole
from cernvm.net import Fetcher

log = logging.getLogger(__name__)

MAX_AGE_S = 60.0
_RETRY_S = 15.0
_ASK_S = 20.0
_CERTIFICATE = ".certificate"


class RootDocuments:
    """Manifest and whitelist of one repository, kept in `folder`. Concurrency: safe from any thread.

    `judge` makes the judge of this moment.
    """

    def __init__(
        self,
        folder: Path,
        fetcher: Fetcher,
        judge: Callable[[datetime], Judge],
        *,
        stale_s: float,
        clock: Clock,
    ) -> None:
        self._folder = ensure_folder(folder)
        self._fetcher = fetcher
        self._judge = judge
        self._stale = timedelta(seconds=stale_s)
        self._clock = clock
        self._asking = threading.Lock()
        self._offer, self._verified_at = self._kept()
        self._next_at = clock.monotonic()
        self._error: CvmError | None = None

    @property
    def offer(self) -> Offer | None:
        """The last offer that was verified."""
        return self._offer

    def check_catalog(self, digest: Digest, parts: Parts) -> None:
        """Refuse a root catalog that the second signature, where one is asked for, is not for. Errors: `TrustError`."""
        offer = self._offer
        if offer is None or not offer.is_signed_twice or offer.manifest.root_catalog != digest:
            return
        offer.check_root_catalog(read_whole(parts))

    def get(self, path: str) -> bytes:
        """A root document.

        Errors: `NotFoundError` for one that is not passed through; else why there is none that may be served.
        """
        if path not in (MANIFEST_PATH, WHITELIST_PATH):
            raise NotFoundError("root document", path)
        offer = self._newest()
        return offer.manifest_bytes if path == MANIFEST_PATH else offer.whitelist_bytes

    def _newest(self) -> Offer:
        # who finds somebody asking already makes do with what there is
        if self._is_due and self._asking.acquire(blocking=self._offer is None):
            try:
                if self._is_due:
                    self._ask()
            finally:
                self._asking.release()
        now = self._clock.now()
        if self._offer is None or self._verified_at is None:
            raise self._error or UnavailableError("no upstream has answered yet")
        if self._error is not None and now - self._verified_at > self._stale:
            raise self._error
        return self._offer

    @property
    def _is_due(self) -> bool:
        return self._clock.monotonic() >= self._next_at

    def _ask(self) -> None:
        now = self._clock.now()
        known = None if self._offer is None else self._offer.manifest
        try:
            offer = read_offer(
                self._fetcher, self._judge(now), known=known, deadline=Deadline.after(_ASK_S)
            )
        except (UnavailableError, TrustError, FormatError) as error:
            self._error = error
            self._next_at = self._clock.monotonic() + _RETRY_S
            log.warning("through.stale", extra=fields(reason=str(error)[:300]))
            return
        self._offer, self._verified_at, self._error = offer, now, None
        self._next_at = self._clock.monotonic() + MAX_AGE_S
        with suppress(OSError):  # it is asked for again after a restart
            self._keep(offer)

    def _keep(self, offer: Offer) -> None:
        write_atomically(self._folder / _CERTIFICATE, offer.certificate_bytes)
        write_atomically(self._folder / WHITELIST_PATH, offer.whitelist_bytes)
        write_atomically(self._folder / MANIFEST_PATH, offer.manifest_bytes)

    def _kept(self) -> tuple[Offer | None, datetime | None]:
        """What an earlier process verified, if it still holds; when it was kept is when it was verified."""
        now = self._clock.now()
        try:
            names = (MANIFEST_PATH, WHITELIST_PATH, _CERTIFICATE)
            documents = [(self._folder / name).read_bytes() for name in names]
            kept_at = (self._folder / MANIFEST_PATH).stat().st_mtime
            offer = self._judge(now).judge(*documents)
        except (OSError, TrustError, FormatError):
            return None, None
        return offer, datetime.fromtimestamp(kept_at, now.tzinfo)
