"""What is not a tree: manifest, whitelist, certificate, metainfo, tags and reflog, and how they hang together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cernvm.core.digest import Digest
from cernvm.core.errors import CvmError, FormatError, NotFoundError, TrustError
from cernvm.fs.format.history import TRUNK, History
from cernvm.fs.format.letter import parse_letter
from cernvm.fs.format.manifest import Manifest, parse_manifest
from cernvm.fs.format.objects import (
    MANIFEST_PATH,
    REFLOG_PATH,
    WHITELIST_PATH,
    ObjectKind,
    alternative_path,
    object_path,
)
from cernvm.fs.format.reflog import Reference, ReferenceKind
from cernvm.fs.format.signature import CryptographyVerifier
from cernvm.fs.format.trust import verify_certificate, verify_manifest, verify_whitelist
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.check.finding import Finding
from cernvm.fs.survey.database import parse_reflog
from cernvm.fs.survey.reading import read_history, read_object

WARN_BEFORE_DAYS = 7


@dataclass(slots=True)
class Roots:
    """What the root documents say; `manifest` None where it cannot be read."""

    manifest: Manifest | None = None
    history: History = field(default_factory=History)
    references: tuple[Reference, ...] = ()


def check_roots(
    store: ObjectStore, *, name: str, master_keys: Sequence[bytes], now: datetime, found: Roots
) -> Iterator[Finding]:
    """Check all root documents, and leave in `found` what they say.

    Without `master_keys` no signature of the whitelist can be checked, which is told.
    """
    try:
        data = store.get(MANIFEST_PATH)
        manifest = parse_manifest(parse_letter(data, where="manifest").text)
    except (NotFoundError, FormatError, TrustError) as error:
        yield Finding(str(error), place=MANIFEST_PATH)
        return
    found.manifest = manifest
    yield from _check_trust(store, data, manifest, name, master_keys, now)
    yield from _check_metainfo(store, manifest)
    yield from _check_alternatives(store, manifest)
    yield from _check_history(store, manifest, found)
    yield from _check_reflog(store, manifest, found)


def _check_trust(
    store: ObjectStore,
    data: bytes,
    manifest: Manifest,
    name: str,
    master_keys: Sequence[bytes],
    now: datetime,
) -> Iterator[Finding]:
    verifier = CryptographyVerifier()
    if manifest.certificate is None:
        yield Finding("the manifest names no certificate", place=MANIFEST_PATH)
        return
    place = object_path(manifest.certificate, ObjectKind.CERTIFICATE)
    try:
        certificate = read_object(store, manifest.certificate, ObjectKind.CERTIFICATE)
    except CvmError as error:
        yield Finding(str(error), place=place)
        return
    try:
        verify_manifest(data, name=name, certificate=certificate, verifier=verifier)
    except CvmError as error:
        yield Finding(str(error), place=MANIFEST_PATH)
    if not master_keys:
        yield Finding("no public key was given: nobody vouches for it", is_note=True)
        return
    try:
        whitelist = verify_whitelist(
            store.get(WHITELIST_PATH),
            name=name,
            master_keys=master_keys,
            now=now,
            verifier=verifier,
        )
        verify_certificate(certificate, whitelist, verifier=verifier)
    except CvmError as error:
        yield Finding(str(error), place=WHITELIST_PATH)
        return
    if whitelist.is_expired(now + timedelta(days=WARN_BEFORE_DAYS)):
        text = (
            f"the whitelist runs out at {whitelist.expires_at:%Y-%m-%d %H:%M} UTC; sign a new one"
        )
        yield Finding(text, place=WHITELIST_PATH, is_note=True)


def _check_metainfo(store: ObjectStore, manifest: Manifest) -> Iterator[Finding]:
    if manifest.metainfo is None:
        return
    try:
        json.loads(read_object(store, manifest.metainfo, ObjectKind.METAINFO))
    except (CvmError, ValueError, RecursionError) as error:
        yield Finding(str(error), place=object_path(manifest.metainfo, ObjectKind.METAINFO))


def _check_alternatives(store: ObjectStore, manifest: Manifest) -> Iterator[Finding]:
    if not manifest.alternative_paths or manifest.certificate is None:
        return
    for digest, kind in (
        (manifest.root_catalog, ObjectKind.CATALOG),
        (manifest.certificate, ObjectKind.CERTIFICATE),
    ):
        path = alternative_path(digest, kind)
        try:
            if digest.algorithm.digest(store.get(path)) != digest:
                yield Finding("its content does not have the digest of its name", place=path)
        except NotFoundError as error:
            yield Finding(str(error), place=path)


def _check_history(store: ObjectStore, manifest: Manifest, found: Roots) -> Iterator[Finding]:
    if manifest.history is None:
        return
    place = object_path(manifest.history, ObjectKind.HISTORY)
    try:
        found.history = history = read_history(manifest, store)
    except CvmError as error:
        yield Finding(str(error), place=place)
        return
    began = {branch.name: branch.initial_revision for branch in history.branches} | {"": 0}
    for tag in history.tags:
        if tag.branch not in began:
            yield Finding(
                f"tag {tag.name} is on branch {tag.branch!r}, which is unknown", place=place
            )
        elif tag.revision < began[tag.branch]:
            yield Finding(f"tag {tag.name} is older than its branch", place=place)
        if tag.revision > manifest.revision and not tag.branch:
            yield Finding(f"tag {tag.name} is of a later revision than the last", place=place)
        if tag.name == TRUNK and tag.root_catalog != manifest.root_catalog:
            yield Finding("the tag trunk is not of the last revision", place=place, is_note=True)
    for unused in sorted(began.keys() - {tag.branch for tag in history.tags} - {""}):
        yield Finding(f"branch {unused!r} has no tag", place=place)


def _check_reflog(store: ObjectStore, manifest: Manifest, found: Roots) -> Iterator[Finding]:
    try:
        data = store.get(REFLOG_PATH)
    except NotFoundError:
        yield Finding(
            "there is no reflog: garbage cannot be collected",
            place=REFLOG_PATH,
            is_note=manifest.reflog is None,
        )
        return
    try:
        found.references = parse_reflog(data)
    except FormatError as error:
        yield Finding(str(error), place=REFLOG_PATH)
        return
    if (
        manifest.reflog is not None
        and manifest.root_catalog.algorithm.digest(data) != manifest.reflog
    ):
        text = "it is not the one that the manifest names: a replica's, or collected since"
        yield Finding(text, place=REFLOG_PATH, is_note=True)
    listed = {(one.digest, one.kind) for one in found.references}
    for digest, kind in _named(manifest):
        if (digest, kind) not in listed:
            what = f"it does not list the {kind.name.lower().replace('_', ' ')} {digest}"
            yield Finding(what, place=REFLOG_PATH)
    for tag in found.history.tags:
        if (tag.root_catalog, ReferenceKind.ROOT_CATALOG) not in listed:
            yield Finding(f"it does not list the root catalog of tag {tag.name}", place=REFLOG_PATH)


def _named(manifest: Manifest) -> list[tuple[Digest, ReferenceKind]]:
    rows = [
        (manifest.root_catalog, ReferenceKind.ROOT_CATALOG),
        (manifest.certificate, ReferenceKind.CERTIFICATE),
        (manifest.history, ReferenceKind.HISTORY),
        (manifest.metainfo, ReferenceKind.METAINFO),
    ]
    return [(digest, kind) for digest, kind in rows if digest is not None]
