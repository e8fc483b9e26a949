"""The manifest, believed only when the whole chain from a master key down to it holds.

A manifest that does not verify is refused like a damaged object: it is asked for past all caches, then from the next
host, until one host has a manifest that holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cernvm.core.clock import Deadline
from cernvm.core.digest import Digest
from cernvm.core.errors import CvmError, FormatError, RollbackError, SignatureError, TrustError
from cernvm.fs.cache import Breadcrumb, ContentKey
from cernvm.fs.format.blacklist import Blacklist
from cernvm.fs.format.catalog import MAX_CATALOG_BYTES
from cernvm.fs.format.letter import MAX_LETTER_BYTES
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import MANIFEST_PATH, WHITELIST_PATH, ObjectKind
from cernvm.fs.format.second import check_root_catalog, sha256_of
from cernvm.fs.format.trust import (
    Verifier,
    open_manifest,
    verify_certificate,
    verify_manifest,
    verify_whitelist,
)
from cernvm.fs.format.whitelist import Whitelist
from cernvm.fs.reader.objects import ObjectSource
from cernvm.net import Attempt, Fetcher, fetch

MAX_CERTIFICATE_BYTES = 1 << 16

T = TypeVar("T")
OnAttempt = Callable[[Attempt], None]


@dataclass(frozen=True, slots=True)
class TrustedSource:
    """Where one repository's manifests come from, and by which keys they are judged."""

    name: str
    fetcher: Fetcher
    objects: ObjectSource
    master_keys: Sequence[bytes]
    verifier: Verifier
    blacklist: Callable[[], Blacklist] = Blacklist
    on_whitelist: Callable[[Whitelist], None] = lambda _: None  # one that vouched for a manifest
    second_keys: Sequence[bytes] = ()  # where there are any, one must have signed as well

    def newest_manifest(
        self,
        *,
        now: datetime,
        known: Breadcrumb | None,
        current_root: Digest | None,
        deadline: Deadline,
        on_attempt: OnAttempt,
    ) -> Manifest | None:
        """The newest manifest that some host offers and that verifies; None when it is of `current_root`.

        One of the revision that is shown already is verified like any other: else a replay could hold a reader there
        for longer than the whitelist allows.
        Errors: `SignatureError` (also for a blacklisted certificate), `ExpiredError`, `DigestMismatchError`,
        `LetterFormatError`; `RollbackError` when every host offers less than `known` or than the blacklist allows;
        `HostError`, `DeadlineError`.
        """
        refused: dict[bytes, CvmError] = {}

        def accept(data: bytes) -> bytes:
            if data in refused:
                raise refused[data]
            manifest = open_manifest(data, name=self.name)
            if manifest.root_catalog != current_root:
                check_rollback(manifest, known)
            return data

        while True:
            data = self._fetch(MANIFEST_PATH, accept, deadline, on_attempt)
            try:
                manifest = self._verified(data, now, deadline, on_attempt)
            except (TrustError, FormatError) as error:
                # The next round gets the same bytes refused at once, so another host is asked.
                refused[data] = error
            else:
                return None if manifest.root_catalog == current_root else manifest

    def _verified(
        self, data: bytes, now: datetime, deadline: Deadline, on_attempt: OnAttempt
    ) -> Manifest:
        """The manifest, once certificate and whitelist were fetched and vouch for it."""
        certificate = self._fetch_certificate(open_manifest(data, name=self.name), deadline)
        blacklist = self.blacklist()

        def accept_whitelist(document: bytes) -> None:
            whitelist = verify_whitelist(
                document,
                name=self.name,
                master_keys=self.master_keys,
                now=now,
                verifier=self.verifier,
            )
            verify_certificate(certificate, whitelist, verifier=self.verifier)
            self.on_whitelist(whitelist)

        manifest = verify_manifest(
            data,
            name=self.name,
            certificate=certificate,
            verifier=self.verifier,
            second_keys=self.second_keys,
        )
        if self.second_keys:
            self._check_root_catalog(manifest, deadline)
        blacklist.check_revision(manifest.revision, name=self.name)
        der = self.verifier.read_certificate(certificate).der
        blacklist.check_certificate(der, name=self.name)
        self._fetch(WHITELIST_PATH, accept_whitelist, deadline, on_attempt)
        return manifest

    def _check_root_catalog(self, manifest: Manifest, deadline: Deadline) -> None:
        """The catalog's own digest may be a weak one; it is fetched to be shown in any case."""
        content = self.objects.get(
            ContentKey(manifest.root_catalog),
            ObjectKind.CATALOG,
            deadline,
            limit_bytes=MAX_CATALOG_BYTES,
        )
        check_root_catalog(manifest, sha256_of(content.pread(0, content.size_bytes)))

    def _fetch_certificate(self, manifest: Manifest, deadline: Deadline) -> bytes:
        if manifest.certificate is None:
            raise SignatureError(f"the manifest of {self.name} names no certificate")
        beside = (manifest.root_catalog, manifest.certificate)
        self.objects.alternatives = frozenset(beside if manifest.alternative_paths else ())
        content = self.objects.get(
            ContentKey(manifest.certificate),
            ObjectKind.CERTIFICATE,
            deadline,
            limit_bytes=MAX_CERTIFICATE_BYTES,
        )
        return content.pread(0, content.size_bytes)

    def _fetch(
        self,
        path: str,
        accept: Callable[[bytes], T],
        deadline: Deadline,
        on_attempt: OnAttempt,
    ) -> T:
        return fetch(
            self.fetcher,
            path,
            limit_bytes=MAX_LETTER_BYTES,
            deadline=deadline,
            accept=accept,
            on_attempt=on_attempt,
        )


def check_rollback(manifest: Manifest, known: Breadcrumb | None) -> None:
    """Refuse what is older than the revision known, by number or by time. Errors: `RollbackError`."""
    if known is None or manifest.root_catalog == known.root_catalog:
        return
    published = manifest.published_at
    is_earlier = published is not None and published.timestamp() < known.published_s
    if manifest.revision < known.revision or is_earlier:
        raise RollbackError(
            f"revision {manifest.revision} of {manifest.name} was offered, "
            f"but revision {known.revision} was seen before",
            advice="the server is stale or replays old data; another --url may be up to date",
        )
