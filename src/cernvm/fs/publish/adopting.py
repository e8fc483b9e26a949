"""Taking over a repository that somebody else made and published, and giving it up again; nothing in it is copied."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import ExistsError, LetterFormatError, NotFoundError, TrustError
from cernvm.core.home import Home
from cernvm.core.log import fields
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import REFLOG_PATH, WHITELIST_PATH
from cernvm.fs.format.signature import CryptographyVerifier, public_key_of
from cernvm.fs.format.trust import verify_certificate, verify_whitelist
from cernvm.fs.publish.keys import read_key
from cernvm.fs.publish.repository import (
    Repository,
    forget_record,
    known_repositories,
    open_storage,
    write_record,
)
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.transaction import check_no_transaction
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.reading import read_catalog

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adopted:
    """A repository that is published from here from now on; `warnings` are sentences about what it lacks."""

    repository: Repository
    manifest: Manifest
    warnings: tuple[str, ...]


def adopt_repository(home: Home, repository: Repository, *, clock: Clock | None = None) -> Adopted:
    """Make a repository known that lies in `repository.storage` and whose keys lie in `repository.keys`.

    Shape: digest algorithm, lifetime and collectability are taken from its manifest. It is read, and not changed.
    Errors: `ExistsError` for a known name, `NotFoundError` where no repository lies, `TrustError` where the keys are
    not those it was signed with, `PrerequisiteError` for a missing key, `TransactionOpenError` while another publisher
    is at work.
    """
    if any(known.name == repository.name for known in known_repositories(home)):
        raise ExistsError("repository", repository.name, advice="it is published from here already")
    now = (clock or SystemClock()).now()
    store = open_storage(repository)
    read_manifest(repository, store)  # to hold a store makes one where there is none
    with store.exclusive():
        manifest = read_manifest(repository, store)
        _check_signing_key(repository)
        read_catalog(manifest.root_catalog, store)
        warnings = [
            *_whitelist_warnings(repository, store, now=now),
            *_reflog_warnings(store),
        ]
        settings = replace(
            repository.settings, ttl_s=manifest.ttl_s, gc=manifest.garbage_collectable
        )
        adopted = replace(repository, algorithm=manifest.root_catalog.algorithm, settings=settings)
        write_record(home, adopted)
    log.info("repository.adopted", extra=fields(name=repository.name, revision=manifest.revision))
    return Adopted(adopted, manifest, tuple(warnings))


def release_repository(home: Home, repository: Repository) -> None:
    """Forget a repository, for another publisher to go on with it; storage and keys stay as they are.

    Errors: `TransactionOpenError` while a transaction is open or another publisher works.
    """
    check_no_transaction(repository)
    with open_storage(repository).exclusive():
        forget_record(home, repository)
    log.info("repository.released", extra=fields(name=repository.name))


def _check_signing_key(repository: Repository) -> None:
    keys = repository.keys
    certificate = CryptographyVerifier().read_certificate(read_key(keys.certificate))
    if public_key_of(read_key(keys.signing)) != certificate.public_key:
        raise TrustError(
            f"{keys.signing} does not belong to {keys.certificate}",
            advice="bring both from the same publisher",
        )


def _whitelist_warnings(repository: Repository, store: ObjectStore, *, now: datetime) -> list[str]:
    """What is wrong with the whitelist, where a new signature by the master key mends it; else the error."""
    verifier = CryptographyVerifier()
    keeps_master = repository.keys.master.is_file()
    try:
        whitelist = verify_whitelist(
            store.get(WHITELIST_PATH),
            name=repository.name,
            master_keys=[read_key(repository.keys.public)],
            now=now,
            verifier=verifier,
        )
        verify_certificate(read_key(repository.keys.certificate), whitelist, verifier=verifier)
    except (TrustError, LetterFormatError, NotFoundError) as exc:
        if not keeps_master:
            raise
        return [
            f"the whitelist is not valid ({exc}); it is signed anew by: cvm repo resign {repository.name}"
        ]
    if not keeps_master:
        until = f"{whitelist.expires_at:%Y-%m-%d}"
        return [
            f"the master key is not here: somebody else must renew the whitelist before {until}"
        ]
    return []


def _reflog_warnings(store: ObjectStore) -> list[str]:
    if store.has(REFLOG_PATH):
        return []
    return ["there is no reflog: earlier revisions without a tag go with the first collection"]
