"""Making a revision whose objects are all in the store the one that is served."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cernvm.core.digest import Digest
from cernvm.core.errors import FormatError, NotFoundError, TrustError
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
from cernvm.fs.replicate.upstream import Offer
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import extend_reflog


def objects_beside(manifest: Manifest) -> list[tuple[Digest, ReferenceKind]]:
    """The objects that a manifest names beside its root catalog."""
    named = (
        (manifest.certificate, ReferenceKind.CERTIFICATE),
        (manifest.history, ReferenceKind.HISTORY),
        (manifest.metainfo, ReferenceKind.METAINFO),
    )
    return [(digest, kind) for digest, kind in named if digest is not None]


def reveal(store: ObjectStore, offer: Offer, *, roots: Iterable[Digest], now: datetime) -> None:
    """Reflog, whitelist, and the manifest last; `roots` are all root catalogs that are there and whole.

    Errors: `SignatureError` for a root catalog that a second signature is not for; it is removed.
    """
    manifest = offer.manifest
    check_root(store, offer)
    if manifest.alternative_paths:
        _put_alternatives(store, manifest, offer.certificate_bytes)
    references = [(digest, ReferenceKind.ROOT_CATALOG) for digest in roots]
    references += objects_beside(manifest)
    try:
        reflog = store.get(REFLOG_PATH)
    except NotFoundError:
        reflog = None
    extended = extend_reflog(reflog, name=manifest.name, references=references, now=now)
    if extended != reflog:
        store.replace(REFLOG_PATH, extended)
    store.replace(WHITELIST_PATH, offer.whitelist_bytes)
    store.replace(MANIFEST_PATH, offer.manifest_bytes)


def check_root(store: ObjectStore, offer: Offer) -> None:
    """Refuse the store's root catalog, and remove it, if the second signature counts and is not for it."""
    if not offer.is_signed_twice:
        return
    path = object_path(offer.manifest.root_catalog, ObjectKind.CATALOG)
    try:
        offer.check_root_catalog(store.get(path))
    except (TrustError, FormatError):
        store.delete(path)
        raise


def _put_alternatives(store: ObjectStore, manifest: Manifest, certificate_bytes: bytes) -> None:
    """Root catalog and certificate once more, for readers whose servers protect `data/`."""
    assert manifest.certificate is not None, "the offer was verified by it"
    catalog = store.get(object_path(manifest.root_catalog, ObjectKind.CATALOG))
    store.put(alternative_path(manifest.root_catalog, ObjectKind.CATALOG), catalog)
    certificate = alternative_path(manifest.certificate, ObjectKind.CERTIFICATE)
    store.put(certificate, certificate_bytes)
