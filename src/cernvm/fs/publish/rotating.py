"""Another signing key, another certificate, and the end of old ones, without a client that notices.

A rotation lists the next certificate beside the old one, waits until no cache can have the old whitelist any more, then
signs the manifest by the next key. It may die anywhere: repeated, it goes on. The old certificate stays listed for a
grace, for who has an old manifest in a cache.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.digest import Digest
from cernvm.core.errors import InvalidInputError, NotFoundError
from cernvm.core.home import write_atomically, write_private
from cernvm.core.log import fields
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import MANIFEST_PATH, REFLOG_PATH, ObjectKind
from cernvm.fs.format.reflog import ReferenceKind
from cernvm.fs.format.signature import (
    create_certificate,
    create_private_key,
    create_second_key,
    second_public_key_of,
)
from cernvm.fs.format.whitelist import Whitelist, format_fingerprint, parse_fingerprint
from cernvm.fs.publish.keys import Keys, finish_rotation, read_key
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import make_alternatives, read_manifest, sign_with, write_object
from cernvm.fs.publish.whitelisting import (
    fingerprint_of,
    own_fingerprints,
    read_listed,
    read_whitelist,
    renew_whitelist,
    write_listed,
)
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import extend_reflog

SETTLE_S = 180.0  # caches are told to keep a whitelist for 61 s
GRACE_DAYS = 30

log = logging.getLogger(__name__)


def rotate_signing_key(
    repository: Repository,
    store: ObjectStore,
    *,
    wait: Callable[[float], None],
    settle_s: float = SETTLE_S,
    grace_days: int = GRACE_DAYS,
    clock: Clock | None = None,
) -> Digest:
    """Have manifests be signed by a new key; returns the fingerprint of its certificate.

    Shape: `wait` waits for so many seconds. Errors: those of the master key, before anything has changed.
    """
    used = clock or SystemClock()
    keys = repository.keys
    with store.exclusive():
        finish_rotation(keys)
        read_manifest(repository, store)
        _make_next(keys, used)
        listed = _listing_next(repository, store, used)
    wait(max(0.0, settle_s - (used.now() - listed.created_at).total_seconds()))
    with store.exclusive():
        old = fingerprint_of(read_key(keys.certificate), repository.algorithm)
        _resign(repository, store, read_manifest(repository, store), used)
        until = used.now() + timedelta(days=grace_days)
        write_listed(keys, read_listed(keys) | {format_fingerprint(old): until.timestamp()})
        keys.next_signing.replace(keys.signing)
        finish_rotation(keys)
    fresh = fingerprint_of(read_key(keys.certificate), repository.algorithm)
    log.info("key.rotated", extra=fields(name=repository.name, now=format_fingerprint(fresh)))
    return fresh


def list_certificate(
    repository: Repository, store: ObjectStore, certificate: Path, *, clock: Clock | None = None
) -> Digest:
    """Have the whitelist list another publisher's certificate as well; returns its fingerprint."""
    with store.exclusive():
        fingerprint = fingerprint_of(read_key(certificate), repository.algorithm)
        _list_until(repository, fingerprint, None)
        now = (clock or SystemClock()).now()
        renew_whitelist(repository, store, now=now, force=True, extra=(fingerprint,))
    return fingerprint


def revoke_certificate(
    repository: Repository, store: ObjectStore, fingerprint: str, *, clock: Clock | None = None
) -> Digest:
    """Take a certificate off the whitelist; returns its fingerprint, which a blacklist may name as well.

    Errors: `NotFoundError` for one that is not listed; `InvalidInputError` for the one in use.
    """
    found = parse_fingerprint(fingerprint.upper())
    with store.exclusive():
        listed = read_whitelist(repository, store).fingerprints
        if found is None or found not in listed:
            raise NotFoundError(
                "listed certificate",
                fingerprint,
                advice=f"cvm repo keys show {repository.name} lists them",
            )
        if found in own_fingerprints(repository):
            raise InvalidInputError(
                "this certificate is in use",
                advice=f"replace it first: cvm repo keys rotate {repository.name}",
            )
        _list_until(repository, found, 0.0)
        renew_whitelist(repository, store, now=(clock or SystemClock()).now(), force=True)
    return found


def begin_second_signature(repository: Repository, store: ObjectStore) -> Path:
    """Make the key of second signatures, if there is none, and sign the manifest; returns the public key's file."""
    keys = repository.keys
    with store.exclusive():
        manifest = read_manifest(repository, store)
        if not keys.second.is_file():
            write_private(keys.second, create_second_key())
        write_atomically(keys.second_public, second_public_key_of(read_key(keys.second)))
        _write(repository, store, manifest, keys.signing, keys.certificate)
    return keys.second_public


def _make_next(keys: Keys, clock: Clock) -> None:
    """The secret first: a certificate without one means that the exchange has begun."""
    if keys.next_certificate.is_file():
        return
    if not keys.next_signing.is_file():
        write_private(keys.next_signing, create_private_key())
    certificate = create_certificate(read_key(keys.next_signing), name=keys.name, now=clock.now())
    write_atomically(keys.next_certificate, certificate)


def _listing_next(repository: Repository, store: ObjectStore, clock: Clock) -> Whitelist:
    current = renew_whitelist(repository, store, now=clock.now())
    if set(own_fingerprints(repository)) <= set(current.fingerprints):
        return current
    return renew_whitelist(repository, store, now=clock.now(), force=True)


def _resign(repository: Repository, store: ObjectStore, manifest: Manifest, clock: Clock) -> None:
    """Serve the same revision, signed by the next key."""
    keys = repository.keys
    written = write_object(
        repository, store, read_key(keys.next_certificate), ObjectKind.CERTIFICATE
    )
    reflog = extend_reflog(
        store.get(REFLOG_PATH) if store.has(REFLOG_PATH) else None,
        name=repository.name,
        references=[(written.digest, ReferenceKind.CERTIFICATE)],
        now=clock.now(),
    )
    named = replace(
        manifest,
        certificate=written.digest,
        reflog=repository.algorithm.digest(reflog),
    )
    store.replace(REFLOG_PATH, reflog)
    _write(repository, store, named, keys.next_signing, keys.next_certificate)


def _write(
    repository: Repository, store: ObjectStore, manifest: Manifest, signing: Path, certificate: Path
) -> None:
    signed = make_alternatives(repository, store, manifest)
    letter = sign_with(repository, store, signed, signing=signing, certificate=certificate)
    store.replace(MANIFEST_PATH, letter)


def _list_until(repository: Repository, fingerprint: Digest, until: float | None) -> None:
    listed = read_listed(repository.keys)
    listed.pop(format_fingerprint(fingerprint), None)
    if until is not None:
        listed[format_fingerprint(fingerprint)] = until
    write_listed(repository.keys, listed)
