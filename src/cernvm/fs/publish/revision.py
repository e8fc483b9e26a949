"""The last revision as a publisher sees it: what its own store says, checked with its own keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.digest import Digest
from cernvm.core.errors import LetterFormatError, NotFoundError, SignatureError, TrustError
from cernvm.fs.format.compress import deflate
from cernvm.fs.format.history import Tag
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import (
    MANIFEST_PATH,
    REFLOG_PATH,
    WHITELIST_PATH,
    ObjectKind,
    object_path,
)
from cernvm.fs.format.reflog import ReferenceKind
from cernvm.fs.format.signature import CryptographyVerifier
from cernvm.fs.format.trust import (
    open_manifest,
    verify_certificate,
    verify_manifest,
    verify_whitelist,
)
from cernvm.fs.format.whitelist import Whitelist
from cernvm.fs.publish.keys import read_key
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.signing import needs_renewal, sign_manifest, sign_whitelist
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import (
    extend_reflog,
    pack_history,
)
from cernvm.fs.survey.reading import read_history, read_object


def read_manifest(repository: Repository, store: ObjectStore) -> Manifest:
    """The last revision's manifest, if this publisher's own certificate signed it.

    Who publishes through a gateway has none; then it is one that the whitelist vouches for.
    """
    try:
        data = store.get(MANIFEST_PATH)
    except NotFoundError:
        raise NotFoundError(
            "repository in",
            repository.storage,
            advice=f"make it: cvm repo create {repository.name}",
        ) from None
    certificate = (
        _vouched_certificate(repository, store, data)
        if repository.gateway
        else read_key(repository.keys.certificate)
    )
    return verify_manifest(
        data, name=repository.name, certificate=certificate, verifier=CryptographyVerifier()
    )


@dataclass(frozen=True, slots=True)
class Written:
    """An object that was put. Units: `size_bytes` before deflating, `stored_bytes` after."""

    digest: Digest
    size_bytes: int
    stored_bytes: int


def write_object(
    repository: Repository, store: ObjectStore, data: bytes, kind: ObjectKind
) -> Written:
    """Deflate, name and put an object that is no file's content."""
    deflated = deflate(data)
    digest = repository.algorithm.digest(deflated)
    store.put(object_path(digest, kind), deflated)
    return Written(digest, len(data), len(deflated))


def write_revision(
    repository: Repository,
    store: ObjectStore,
    manifest: Manifest,
    *,
    tags: tuple[Tag, ...] | None,
    previous: Manifest | None,
    now: datetime,
) -> tuple[Manifest, int]:
    """Make a revision the served one: certificate, history, reflog, whitelist, and, last, the manifest.

    Shape: returns the manifest as it was signed, and the bytes that were stored.
    """
    certificate = write_object(
        repository, store, read_key(repository.keys.certificate), ObjectKind.CERTIFICATE
    )
    references = [
        (manifest.root_catalog, ReferenceKind.ROOT_CATALOG),
        (certificate.digest, ReferenceKind.CERTIFICATE),
    ]
    if manifest.metainfo is not None:
        references.append((manifest.metainfo, ReferenceKind.METAINFO))
    stored_bytes = certificate.stored_bytes
    history: Digest | None = None
    if tags is not None:
        packed = pack_history(
            name=repository.name,
            tags=tags,
            previous=None if previous is None else previous.history,
            branches=() if previous is None else read_history(previous, store).branches,
        )
        written = write_object(repository, store, packed, ObjectKind.HISTORY)
        history = written.digest
        stored_bytes += written.stored_bytes
        references.append((history, ReferenceKind.HISTORY))
    reflog = extend_reflog(
        _existing_reflog(store, previous), name=repository.name, references=references, now=now
    )
    named = replace(manifest, certificate=certificate.digest, history=history)
    return serve_manifest(repository, store, named, reflog=reflog, now=now), stored_bytes


def serve_manifest(
    repository: Repository, store: ObjectStore, manifest: Manifest, *, reflog: bytes, now: datetime
) -> Manifest:
    """Sign a manifest of which all objects are there, and make it the served one, with its reflog."""
    signed = replace(manifest, reflog=repository.algorithm.digest(reflog))
    letter = sign_manifest(signed, signing_key=read_key(repository.keys.signing))
    # a key that does not belong to the certificate must be found here, not by every client
    verify_manifest(
        letter,
        name=repository.name,
        certificate=read_key(repository.keys.certificate),
        verifier=CryptographyVerifier(),
    )
    renew_whitelist(repository, store, now=now)
    store.replace(REFLOG_PATH, reflog)
    store.replace(MANIFEST_PATH, letter)
    return signed


def renew_whitelist(
    repository: Repository, store: ObjectStore, *, now: datetime, force: bool = False
) -> Whitelist:
    """The whitelist, signed anew where it is missing, damaged, runs out soon or lacks the certificate.

    Errors: `PrerequisiteError` where a new one is needed at once and the master key is not here.
    """
    certificate = read_key(repository.keys.certificate)
    good = None if force else _good_whitelist(repository, store, certificate, now)
    # while it is in date, only who holds the master key renews it, in passing
    if good and not (needs_renewal(good, now=now) and repository.keys.master.is_file()):
        return good
    signed = sign_whitelist(
        name=repository.name,
        certificates=(certificate,),
        master_key=read_key(repository.keys.master),
        algorithm=repository.algorithm,
        now=now,
    )
    checked = _verified(repository, signed, certificate, now)
    store.replace(WHITELIST_PATH, signed)
    return checked


def renew(repository: Repository, store: ObjectStore, *, clock: Clock | None = None) -> Whitelist:
    """Sign a new whitelist in any case."""
    with store.exclusive():
        now = (clock or SystemClock()).now()
        return renew_whitelist(repository, store, now=now, force=True)


def _good_whitelist(
    repository: Repository, store: ObjectStore, certificate: bytes, now: datetime
) -> Whitelist | None:
    try:
        return _verified(repository, store.get(WHITELIST_PATH), certificate, now)
    except (TrustError, LetterFormatError, NotFoundError):
        return None


def _verified(repository: Repository, data: bytes, certificate: bytes, now: datetime) -> Whitelist:
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


def _vouched_certificate(repository: Repository, store: ObjectStore, manifest: bytes) -> bytes:
    """The certificate that a manifest names, if the whitelist, which the public key vouches for, lists it."""
    digest = open_manifest(manifest, name=repository.name).certificate
    if digest is None:
        raise SignatureError(f"the manifest of {repository.name} names no certificate")
    certificate = read_object(store, digest, ObjectKind.CERTIFICATE)
    _verified(repository, store.get(WHITELIST_PATH), certificate, SystemClock().now())
    return certificate


def _existing_reflog(store: ObjectStore, previous: Manifest | None) -> bytes | None:
    """The reflog so far.

    One that runs ahead of the manifest was left by a publisher that died: it is kept, as it only lists more.
    """
    if previous is None:
        return None
    try:
        return store.get(REFLOG_PATH)
    except NotFoundError:
        return None
