"""The upstream's root documents, believed only when the whole chain from a master key down to them holds.

Documents that do not verify, or are older than what the replica has, are refused like a damaged object: they are asked
for past all caches, then of the next mirror.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cernvm.core.clock import Deadline
from cernvm.core.errors import (
    CvmError,
    DigestMismatchError,
    FormatError,
    RollbackError,
    SignatureError,
    TrustError,
)
from cernvm.fs.format.catalog import MAX_CATALOG_BYTES
from cernvm.fs.format.compress import inflate
from cernvm.fs.format.letter import MAX_LETTER_BYTES
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import MANIFEST_PATH, WHITELIST_PATH, ObjectKind, object_path
from cernvm.fs.format.second import check_root_catalog, sha256_of
from cernvm.fs.format.signature import CryptographyVerifier
from cernvm.fs.format.trust import (
    Verifier,
    open_manifest,
    verify_certificate,
    verify_manifest,
    verify_whitelist,
)
from cernvm.fs.format.whitelist import Whitelist
from cernvm.fs.replicate.keys import read_public_keys
from cernvm.net import Fetcher, fetch

MAX_CERTIFICATE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Offer:
    """A revision that the upstream offers, verified; bytes are as they are served.

    Shape: if it `is_signed_twice`, its root catalog must have the SHA-256 that the manifest names.
    """

    manifest: Manifest
    whitelist: Whitelist
    manifest_bytes: bytes
    whitelist_bytes: bytes
    certificate_bytes: bytes
    is_signed_twice: bool = False

    def check_root_catalog(self, stored: bytes) -> None:
        """Refuse a root catalog that is not the one of the second signature, if that counts.

        Errors: `SignatureError`.
        """
        if self.is_signed_twice:
            content = inflate(stored, limit_bytes=MAX_CATALOG_BYTES)
            check_root_catalog(self.manifest, sha256_of(content))


@dataclass(frozen=True, slots=True)
class Judge:
    """By what one repository's documents are judged.

    Shape: keys are PEM; any of `master_keys` may vouch; with `second_keys`, any of these must have signed as well.
    """

    name: str
    master_keys: Sequence[bytes]
    now: datetime
    second_keys: Sequence[bytes] = ()
    verifier: Verifier = field(default_factory=CryptographyVerifier)

    def judge(
        self, manifest_bytes: bytes, whitelist_bytes: bytes, certificate_bytes: bytes
    ) -> Offer:
        """The offer that these documents make. Errors: `TrustError`, `FormatError`."""
        pem = inflate(certificate_bytes, limit_bytes=MAX_CERTIFICATE_BYTES)
        manifest = verify_manifest(
            manifest_bytes,
            name=self.name,
            certificate=pem,
            verifier=self.verifier,
            second_keys=self.second_keys,
        )
        whitelist = verify_whitelist(
            whitelist_bytes,
            name=self.name,
            master_keys=self.master_keys,
            now=self.now,
            verifier=self.verifier,
        )
        verify_certificate(pem, whitelist, verifier=self.verifier)
        return Offer(
            manifest,
            whitelist,
            manifest_bytes,
            whitelist_bytes,
            certificate_bytes,
            is_signed_twice=bool(self.second_keys),
        )


def read_judge(
    name: str, *, public_keys: Sequence[Path], second_keys: Sequence[Path], now: datetime
) -> Judge:
    """The judge by the keys in some files. Errors: as `read_public_keys`."""
    return Judge(name, read_public_keys(public_keys), now, read_public_keys(second_keys))


def read_offer(
    fetcher: Fetcher, judge: Judge, *, known: Manifest | None, deadline: Deadline
) -> Offer:
    """The newest offer of the first mirror whose documents hold and are no older than `known`.

    Errors: `SignatureError`, `ExpiredError`, `DigestMismatchError`, `LetterFormatError`; `RollbackError` where every
    mirror is behind; `HostError`, `DeadlineError`.
    """
    refused: dict[bytes, CvmError] = {}

    def accept(data: bytes) -> bytes:
        if data in refused:
            raise refused[data]
        check_no_older(open_manifest(data, name=judge.name), known)
        return data

    while True:
        data = fetch(
            fetcher,
            MANIFEST_PATH,
            limit_bytes=MAX_LETTER_BYTES,
            deadline=deadline,
            accept=accept,
        )
        try:
            return _offer(fetcher, judge, data, deadline)
        except (TrustError, FormatError) as error:
            refused[data] = error  # the next round gets the same bytes refused, and asks elsewhere


def check_no_older(manifest: Manifest, known: Manifest | None) -> None:
    """Refuse what is older than the revision known, by number or by time. Errors: `RollbackError`."""
    if known is None:
        return
    times = (manifest.published_at, known.published_at)
    is_earlier = times[0] is not None and times[1] is not None and times[0] < times[1]
    if manifest.revision < known.revision or is_earlier:
        raise RollbackError(
            f"revision {manifest.revision} of {manifest.name} was offered, "
            f"but the replica has revision {known.revision}",
            advice="the upstream is stale or was set back; another URL may be up to date",
        )


def _offer(fetcher: Fetcher, judge: Judge, data: bytes, deadline: Deadline) -> Offer:
    digest = open_manifest(data, name=judge.name).certificate
    if digest is None:
        raise SignatureError(f"the manifest of {judge.name} names no certificate")
    path = object_path(digest, ObjectKind.CERTIFICATE)

    def accept_certificate(stored: bytes) -> bytes:
        got = digest.algorithm.digest(stored)
        if got != digest:
            raise DigestMismatchError(expected=str(digest), got=str(got), source=f"object {path}")
        return stored

    certificate = fetch(
        fetcher,
        path,
        limit_bytes=MAX_CERTIFICATE_BYTES,
        deadline=deadline,
        accept=accept_certificate,
    )
    return fetch(
        fetcher,
        WHITELIST_PATH,
        limit_bytes=MAX_LETTER_BYTES,
        deadline=deadline,
        accept=lambda whitelist: judge.judge(data, whitelist, certificate),
    )
