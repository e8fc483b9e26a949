"""The last revision as a publisher sees it: what its own store says, checked with its own keys."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cernvm.core.clock import SystemClock
from cernvm.core.digest import Digest
from cernvm.core.errors import NotFoundError, SignatureError
from cernvm.fs.format.compress import deflate
from cernvm.fs.format.history import Branch, Tag
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import (
    MANIFEST_PATH,
    REFLOG_PATH,
    WHITELIST_PATH,
    ObjectKind,
    alternative_path,
    object_path,
)
from cernvm.fs.format.reflog import ReferenceKind
from cernvm.fs.format.second import sha256_of
from cernvm.fs.format.signature import CryptographyVerifier, second_public_key_of
from cernvm.fs.format.trust import open_manifest, verify_manifest
from cernvm.fs.publish.keys import finish_rotation, read_key
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.signing import sign_manifest
from cernvm.fs.publish.whitelisting import renew_whitelist, verify_own_whitelist
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
    if repository.gateway:
        certificate = _vouched_certificate(repository, store, data)
        return verify_manifest(
            data, name=repository.name, certificate=certificate, verifier=CryptographyVerifier()
        )
    finish_rotation(repository.keys)
    return _signed_here(repository, data)


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
    branches: Sequence[Branch] = (),
) -> tuple[Manifest, int]:
    """Make a revision the served one: certificate, history, reflog, whitelist, and, last, the manifest.

    Shape: `branches` come to those that there are; returns the manifest as signed, and the bytes that were stored.
    Where the clock was set back the manifest has the time of the one before, since replicas refuse an earlier one.
    """
    if manifest.published_at and previous and previous.published_at:
        latest = max(manifest.published_at, previous.published_at)
        manifest = replace(manifest, published_at=latest)
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
        known = () if previous is None else read_history(previous, store).branches
        references += [(tag.root_catalog, ReferenceKind.ROOT_CATALOG) for tag in tags if tag.branch]
        packed = pack_history(
            name=repository.name,
            tags=tags,
            previous=None if previous is None else previous.history,
            branches=(*known, *branches),
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
    keys = repository.keys
    named = replace(manifest, reflog=repository.algorithm.digest(reflog))
    signed = make_alternatives(repository, store, named)
    letter = sign_with(
        repository, store, signed, signing=keys.signing, certificate=keys.certificate
    )
    renew_whitelist(repository, store, now=now)
    store.replace(REFLOG_PATH, reflog)
    store.replace(MANIFEST_PATH, letter)
    return signed


def sign_with(
    repository: Repository,
    store: ObjectStore,
    manifest: Manifest,
    *,
    signing: Path,
    certificate: Path,
) -> bytes:
    """The letter of a manifest, signed by the key in a file, whose certificate is in another one.

    Errors: `SignatureError` when they do not belong together: that must be found here, not by every client.
    """
    second_key = None
    if repository.keys.second.is_file():
        second_key = read_key(repository.keys.second)
        root = read_object(store, manifest.root_catalog, ObjectKind.CATALOG)
        manifest = replace(manifest, root_catalog_sha256=sha256_of(root))
    letter = sign_manifest(manifest, signing_key=read_key(signing), second_key=second_key)
    verify_manifest(
        letter,
        name=repository.name,
        certificate=read_key(certificate),
        verifier=CryptographyVerifier(),
        second_keys=() if second_key is None else (second_public_key_of(second_key),),
    )
    return letter


def make_alternatives(repository: Repository, store: ObjectStore, manifest: Manifest) -> Manifest:
    """The manifest with root catalog and certificate also beside it, where the settings want that."""
    wanted = repository.settings.alternative_paths
    if wanted is not None:
        manifest = replace(manifest, alternative_paths=wanted)
    if manifest.alternative_paths:
        pairs = [(manifest.root_catalog, ObjectKind.CATALOG)]
        if manifest.certificate is not None:
            pairs.append((manifest.certificate, ObjectKind.CERTIFICATE))
        for digest, kind in pairs:
            store.put(alternative_path(digest, kind), store.get(object_path(digest, kind)))
    return manifest


def _signed_here(repository: Repository, data: bytes) -> Manifest:
    """The manifest in a letter, if one of this publisher's certificates signed it."""
    *others, last = repository.keys.own_certificates
    for path in others:
        with suppress(SignatureError):
            return verify_manifest(
                data,
                name=repository.name,
                certificate=read_key(path),
                verifier=CryptographyVerifier(),
            )
    return verify_manifest(
        data, name=repository.name, certificate=read_key(last), verifier=CryptographyVerifier()
    )


def _vouched_certificate(repository: Repository, store: ObjectStore, manifest: bytes) -> bytes:
    """The certificate that a manifest names, if the whitelist, which the public key vouches for, lists it."""
    digest = open_manifest(manifest, name=repository.name).certificate
    if digest is None:
        raise SignatureError(f"the manifest of {repository.name} names no certificate")
    certificate = read_object(store, digest, ObjectKind.CERTIFICATE)
    verify_own_whitelist(repository, store.get(WHITELIST_PATH), certificate, SystemClock().now())
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
