"""The manifest, believed only when the whole chain from a master key down to it holds.

A manifest that does not verify is refused like a damaged object: it is asked for past all caches, then from the next
host, until one host has a manifest that holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from cernvm.core.clock import Deadline
from cernvm.core.digest import Digest
from cernvm.core.errors import CvmError, FormatError, RollbackError, SignatureError, TrustError
from cernvm.fs.cache import Breadcrumb, ContentKey
from cernvm.fs.format.letter import MAX_LETTER_BYTES
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import MANIFEST_PATH, WHITELIST_PATH, ObjectKind
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


def fetch_manifest(
    name: str,
    *,
    fetcher: Fetcher,
    objects: ObjectSource,
    master_keys: Sequence[bytes],
    verifier: Verifier,
    now: datetime,
    known: Breadcrumb | None,
    current_root: Digest | None,
    deadline: Deadline,
    on_attempt: Callable[[Attempt], None] | None = None,
) -> Manifest | None:
    """The newest manifest that some host offers and that verifies; None when it is of `current_root`.

    A manifest of the revision that is shown already is not verified again, and nothing else in it is believed.
    Errors: `SignatureError`, `ExpiredError`, `DigestMismatchError`, `LetterFormatError`, `RollbackError` when every
    host offers less than `known`; `HostError`, `DeadlineError`.
    """
    refused: dict[bytes, CvmError] = {}

    def accept(data: bytes) -> bytes:
        if data in refused:
            raise refused[data]
        manifest = open_manifest(data, name=name)
        if manifest.root_catalog != current_root:
            _check_rollback(manifest, known)
        return data

    while True:
        data = fetch(
            fetcher,
            MANIFEST_PATH,
            limit_bytes=MAX_LETTER_BYTES,
            deadline=deadline,
            accept=accept,
            on_attempt=on_attempt,
        )
        manifest = open_manifest(data, name=name)
        if manifest.root_catalog == current_root:
            return None
        try:
            certificate = _fetch_certificate(manifest, objects, deadline)
            verified = verify_manifest(data, name=name, certificate=certificate, verifier=verifier)
            whitelist = _fetch_whitelist(
                name, fetcher, master_keys, verifier, now, deadline, on_attempt
            )
            verify_certificate(certificate, whitelist, verifier=verifier)
        except (TrustError, FormatError) as error:
            # The next round gets the same bytes refused at once, so another host is asked.
            refused[data] = error
        else:
            return verified


def _fetch_certificate(manifest: Manifest, objects: ObjectSource, deadline: Deadline) -> bytes:
    if manifest.certificate is None:
        raise SignatureError(f"the manifest of {manifest.name} names no certificate")
    content = objects.get(
        ContentKey(manifest.certificate),
        ObjectKind.CERTIFICATE,
        deadline,
        limit_bytes=MAX_CERTIFICATE_BYTES,
    )
    return content.pread(0, content.size_bytes)


def _fetch_whitelist(
    name: str,
    fetcher: Fetcher,
    master_keys: Sequence[bytes],
    verifier: Verifier,
    now: datetime,
    deadline: Deadline,
    on_attempt: Callable[[Attempt], None] | None,
) -> Whitelist:
    return fetch(
        fetcher,
        WHITELIST_PATH,
        limit_bytes=MAX_LETTER_BYTES,
        deadline=deadline,
        accept=lambda data: verify_whitelist(
            data, name=name, master_keys=master_keys, now=now, verifier=verifier
        ),
        on_attempt=on_attempt,
    )


def _check_rollback(manifest: Manifest, known: Breadcrumb | None) -> None:
    if known is None or manifest.root_catalog == known.root_catalog:
        return
    published = manifest.published_at or datetime.fromtimestamp(0, UTC)
    if manifest.revision < known.revision or (
        manifest.published_at is not None and published.timestamp() < known.published_s
    ):
        raise RollbackError(
            f"revision {manifest.revision} of {manifest.name} was offered, "
            f"but revision {known.revision} was seen before",
            advice="the server is stale or replays old data; another --url may be up to date",
        )
