"""The whitelist as its publisher keeps it: which certificates it lists, until when, signed in time.

A new one lists this publisher's certificates, those that it will use next, and all that the last one listed, but for
those whose time is over (`Keys.listed`, JSON: fingerprint to seconds since the epoch).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import (
    ConfigError,
    CvmError,
    LetterFormatError,
    NotFoundError,
    TrustError,
)
from cernvm.core.home import write_atomically
from cernvm.core.log import fields
from cernvm.fs.format.objects import WHITELIST_PATH
from cernvm.fs.format.signature import CryptographyVerifier
from cernvm.fs.format.trust import verify_certificate, verify_whitelist
from cernvm.fs.format.whitelist import Whitelist, format_fingerprint
from cernvm.fs.publish.keys import Keys, read_key
from cernvm.fs.publish.master import open_master
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.signing import WHITELIST_DAYS, needs_renewal, sign_whitelist
from cernvm.fs.store.port import ObjectStore

WARN_DAYS = 10  # of what a whitelist still lasts

log = logging.getLogger(__name__)

_LONG_AGO = datetime(1970, 1, 2, tzinfo=UTC)


def renew_whitelist(
    repository: Repository,
    store: ObjectStore,
    *,
    now: datetime,
    force: bool = False,
    days: int = WHITELIST_DAYS,
    extra: Sequence[Digest] = (),
) -> Whitelist:
    """The whitelist, signed anew where it is missing, damaged, runs out soon or lacks the certificate.

    Shape: `extra` are fingerprints to list besides. Errors: those of the master key where a new one is needed at once.
    """
    certificate = read_key(repository.keys.certificate)
    good = None if force else _good_whitelist(repository, store, certificate, now)
    if good is None:
        return _sign(repository, store, certificate, now=now, days=days, extra=extra)
    # while it is in date, only who holds the master key renews it, in passing
    master = open_master(repository.settings.master_key, repository.keys)
    if not needs_renewal(good, now=now) or not master.is_at_hand:
        return good
    try:
        return _sign(repository, store, certificate, now=now, days=days)
    except CvmError as error:
        log.warning("whitelist.not_renewed", extra=fields(name=good.name, error=str(error)))
        return good


def renew(
    repository: Repository,
    store: ObjectStore,
    *,
    days: int = WHITELIST_DAYS,
    clock: Clock | None = None,
) -> Whitelist:
    """Sign a new whitelist in any case."""
    with store.exclusive():
        now = (clock or SystemClock()).now()
        return renew_whitelist(repository, store, now=now, force=True, days=days)


def read_whitelist(repository: Repository, store: ObjectStore) -> Whitelist:
    """The whitelist that is served, if the public key vouches for it, even when it has run out.

    Errors: `NotFoundError`, `SignatureError`, `LetterFormatError`.
    """
    data = store.get(WHITELIST_PATH)
    keys = [read_key(repository.keys.public)]
    return verify_whitelist(
        data,
        name=repository.name,
        master_keys=keys,
        now=_LONG_AGO,
        verifier=CryptographyVerifier(),
    )


def expiry_warning(whitelist: Whitelist, *, now: datetime) -> str:
    """What to tell people of a whitelist that runs out before long; empty where there is time."""
    if not whitelist.is_expired(now + timedelta(days=WARN_DAYS)):
        return ""
    verb = "expired" if whitelist.is_expired(now) else "expires"
    return (
        f"the whitelist of {whitelist.name} {verb} at {whitelist.expires_at:%Y-%m-%d %H:%M} UTC; "
        f"whoever has the master key renews it: cvm repo resign {whitelist.name}"
    )


def fingerprint_of(certificate: bytes, algorithm: Algorithm) -> Digest:
    """How a whitelist lists a certificate (PEM)."""
    return algorithm.digest(CryptographyVerifier().read_certificate(certificate).der)


def read_listed(keys: Keys) -> dict[str, float]:
    """Until when fingerprints are listed. Errors: `ConfigError` for a damaged file."""
    try:
        rows = json.loads(keys.listed.read_bytes())
        return {str(text): float(until) for text, until in rows.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"it cannot be read: {error}", source=str(keys.listed)) from error


def write_listed(keys: Keys, until: Mapping[str, float]) -> None:
    """Keep until when fingerprints are listed."""
    write_atomically(keys.listed, json.dumps(dict(until), indent=2).encode() + b"\n")


def own_fingerprints(repository: Repository) -> list[Digest]:
    """Those of the certificates that are in use, or will be next."""
    paths = repository.keys.own_certificates
    return [fingerprint_of(read_key(path), repository.algorithm) for path in paths]


def _sign(
    repository: Repository,
    store: ObjectStore,
    certificate: bytes,
    *,
    now: datetime,
    days: int,
    extra: Sequence[Digest] = (),
) -> Whitelist:
    signed = sign_whitelist(
        name=repository.name,
        fingerprints=tuple(dict.fromkeys((*_to_list(repository, store, now), *extra))),
        master=open_master(repository.settings.master_key, repository.keys),
        algorithm=repository.algorithm,
        now=now,
        days=days,
    )
    checked = verify_own_whitelist(repository, signed, certificate, now)
    store.replace(WHITELIST_PATH, signed)
    return checked


def _to_list(repository: Repository, store: ObjectStore, now: datetime) -> list[Digest]:
    found = dict.fromkeys(own_fingerprints(repository))
    with suppress(TrustError, LetterFormatError, NotFoundError):
        found |= dict.fromkeys(read_whitelist(repository, store).fingerprints)
    until = read_listed(repository.keys)
    return [
        digest
        for digest in found
        if until.get(format_fingerprint(digest), float("inf")) > now.timestamp()
    ]


def _good_whitelist(
    repository: Repository, store: ObjectStore, certificate: bytes, now: datetime
) -> Whitelist | None:
    try:
        return verify_own_whitelist(repository, store.get(WHITELIST_PATH), certificate, now)
    except (TrustError, LetterFormatError, NotFoundError):
        return None


def verify_own_whitelist(
    repository: Repository, data: bytes, certificate: bytes, now: datetime
) -> Whitelist:
    """A whitelist that the public key vouches for and that lists a certificate (PEM). Errors: as `verify_whitelist`."""
    verifier = CryptographyVerifier()
    whitelist = verify_whitelist(
        data,
        name=repository.name,
        master_keys=[read_key(repository.keys.public)],
        now=now,
        verifier=verifier,
    )
    verify_certificate(certificate, whitelist, verifier=verifier)
    return whitelist
