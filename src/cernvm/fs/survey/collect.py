"""Garbage collection of a store: what no kept revision needs goes, and nothing else.

Flow: mark what the head, the tags and what else is to be kept need → mark what the other roots of the reflog
need → sweep drawer by drawer → the catalogs of the gone revisions, those that others refer to last → the reflog.

In this order an interrupted collection leaves a gone revision's catalogs until all that only they know of is deleted,
and the reflog lists it until then, so that the next collection finds what is left. Nothing that a kept revision needs
is touched at any point. Memory: a 256th of the digests, those of the catalogs, and a few catalogs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cernvm.core.digest import Digest
from cernvm.core.errors import CvmError, FormatError, NotFoundError, TrustError
from cernvm.core.log import fields
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import REFLOG_PATH, ObjectKind, object_path
from cernvm.fs.format.reflog import Reference, ReferenceKind
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import parse_reflog, shrink_reflog
from cernvm.fs.survey.listing import Listed, list_drawers
from cernvm.fs.survey.marks import (
    DRAWERS,
    Marks,
    key_of_path,
    object_key,
    parse_alternative_path,
)
from cernvm.fs.survey.reading import read_tags
from cernvm.fs.survey.references import read_properties
from cernvm.fs.survey.walking import Lost, walk

DEFAULT_KEEP_DAYS = 3.0
LEFTOVER_DAYS = 1.0
_AT_ONCE = 1000
_ALTERNATIVES = ".cvmfsalt-"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is kept beside the head and the tagged revisions.

    Shape: `revisions` before the head; every revision that was served within the last `days`; the trees of `roots`.
    Objects that nothing at all refers to go when they are older than `leftover_days`, and than `not_before`: they may
    be those of a publication that is still on its way.
    """

    revisions: int = 0
    days: float = DEFAULT_KEEP_DAYS
    leftover_days: float = LEFTOVER_DAYS
    not_before: datetime | None = None
    roots: tuple[Digest, ...] = ()


@dataclass(slots=True)
class Collected:
    """What a collection did, or, if `is_dry`, would have done.

    Shape: `gone` are root objects that the reflog lists no more; `objects` were of gone revisions, `leftovers` of
    none; `foreign` files below `data/` are none of a repository, and stay. Units: bytes as stored.
    """

    is_dry: bool = False
    kept_revisions: int = 0
    gone_revisions: int = 0
    gone: list[Reference] = field(default_factory=list)
    catalogs: int = 0
    objects: int = 0
    leftovers: int = 0
    freed_bytes: int = 0
    kept_objects: int = 0
    foreign: int = 0


def collect(
    store: ObjectStore,
    manifest: Manifest,
    *,
    keeping: Keeping,
    now: datetime,
    sign: Callable[[bytes], None] | None,
    dry_run: bool = False,
    on_delete: Callable[[str, int], None] | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
) -> Collected:
    """Delete what is not kept; the caller holds the store and has verified the manifest.

    `sign` makes the reflog it is given the served one, with a manifest that names it; without it, as on a replica, only
    the reflog is replaced. `on_delete` is told each path and its bytes, before it goes; `on_step` what is done, and how
    much of how much.
    Errors: `NotFoundError`, `FormatError` and `TrustError` where a kept revision is not whole: then nothing is deleted.
    """
    told = on_step or (lambda _what, _done, _all: None)
    reflog = store.get(REFLOG_PATH)
    listed = parse_reflog(reflog)
    result = Collected(dry_run)
    with Marks() as needed, Marks() as condemned:
        seen: set[Digest] = set()
        kept = _mark_kept(
            store, manifest, listed, keeping, now, needed, seen, told, is_replica=sign is None
        )
        gone = [one for one in listed if not _is_kept(one, kept, manifest, keeping, now)]
        going = {one.digest for one in gone}
        needed.add(
            object_key(o.digest, o.kind.object_kind) for o in listed if o.digest not in going
        )
        result.kept_revisions, result.gone = len(kept), gone
        result.gone_revisions = sum(one.kind is ReferenceKind.ROOT_CATALOG for one in gone)
        catalogs = _condemn(store, gone, condemned, seen, told)
        sweep = _Sweep(
            store,
            needed,
            condemned,
            keeping,
            now,
            result,
            on_delete,
            last=frozenset(object_key(digest, ObjectKind.CATALOG) for digest in catalogs),
        )
        for number, listed_objects in list_drawers(store):
            told("sweep", number, DRAWERS)
            sweep.drawer(number, listed_objects)
        sweep.catalogs(catalogs)
        sweep.alternatives()
    if not dry_run:
        _serve_reflog(store, manifest, reflog, gone, sign)
    log.info(
        "garbage.collected",
        extra=fields(
            gone=result.gone_revisions, objects=result.objects, freed_bytes=result.freed_bytes
        ),
    )
    return result


def _serve_reflog(
    store: ObjectStore,
    manifest: Manifest,
    reflog: bytes,
    gone: Sequence[Reference],
    sign: Callable[[bytes], None] | None,
) -> None:
    """The reflog without what is gone; also as it was, where a broken off collection did not come to sign it."""
    shrunk = shrink_reflog(reflog, [one.digest for one in gone]) if gone else reflog
    if sign is None:
        if gone:
            store.replace(REFLOG_PATH, shrunk)
    elif manifest.reflog != manifest.root_catalog.algorithm.digest(shrunk):
        sign(shrunk)


def _mark_kept(
    store: ObjectStore,
    manifest: Manifest,
    listed: Sequence[Reference],
    keeping: Keeping,
    now: datetime,
    needed: Marks,
    seen: set[Digest],
    told: Callable[[str, int, int], None],
    *,
    is_replica: bool,
) -> set[Digest]:
    """Mark all that the kept revisions need; gives their roots.

    A catalog of the head or of a tagged revision that is missing or damaged ends the collection. The other revisions
    may have been lost by an interrupted collection; they need what is left of them.
    """
    firm = dict.fromkeys([manifest.root_catalog])
    firm.update(dict.fromkeys(_tagged(store, manifest, listed, is_partial=is_replica)))
    loose = dict.fromkeys(keeping.roots)
    loose.update(dict.fromkeys(_previous(store, manifest.root_catalog, keeping.revisions)))
    if keeping.days > 0:
        loose.update(dict.fromkeys(_served_since(listed, now - timedelta(days=keeping.days))))
    catalogs = 0

    def mark(root: Digest, on_lost: Lost | None) -> None:
        nonlocal catalogs
        for found in walk(store, [root], seen, on_lost=on_lost):
            needed.add([*found.objects, object_key(found.catalog.digest, ObjectKind.CATALOG)])
            if root == manifest.root_catalog:
                loose.update(dict.fromkeys(bind.digest for bind in found.binds))
            catalogs += 1
            told("mark", catalogs, 0)

    for root in firm:
        mark(root, None)
    for root in list(loose):
        mark(root, _allow_lost)
    for digest, kind in (
        (manifest.certificate, ObjectKind.CERTIFICATE),
        (manifest.history, ObjectKind.HISTORY),
        (manifest.metainfo, ObjectKind.METAINFO),
    ):
        if digest is not None:
            needed.add([object_key(digest, kind)])
    return {*firm, *loose}


def _tagged(
    store: ObjectStore, manifest: Manifest, listed: Sequence[Reference], *, is_partial: bool
) -> Iterator[Digest]:
    """The tagged revisions; a replica may never have had some of them."""
    known = {one.digest for one in listed}
    for tag in read_tags(manifest, store):
        root = tag.root_catalog
        if not is_partial or root in known or store.has(object_path(root, ObjectKind.CATALOG)):
            yield root


def _previous(store: ObjectStore, head: Digest, count: int) -> Iterator[Digest]:
    """The revisions before the head, until one is gone."""
    root: Digest | None = head
    for _ in range(count):
        root = read_properties(store, root).previous if root else None
        if root is None or not store.has(object_path(root, ObjectKind.CATALOG)):
            return
        yield root


def _served_since(listed: Sequence[Reference], moment: datetime) -> Iterator[Digest]:
    """The roots that were listed since then, and the one that was served at that very time."""
    roots = [one for one in listed if one.kind is ReferenceKind.ROOT_CATALOG]
    before = [one for one in roots if one.listed_at < moment]
    if before:
        latest = max(one.listed_at for one in before)
        yield from (one.digest for one in before if one.listed_at == latest)
    yield from (one.digest for one in roots if one.listed_at >= moment)


def _is_kept(
    one: Reference, kept: Container[Digest], manifest: Manifest, keeping: Keeping, now: datetime
) -> bool:
    if one.kind is ReferenceKind.ROOT_CATALOG:
        return one.digest in kept
    named = (manifest.certificate, manifest.history, manifest.metainfo)
    return one.digest in named or one.listed_at >= now - timedelta(days=keeping.days)


def _condemn(
    store: ObjectStore,
    gone: Sequence[Reference],
    condemned: Marks,
    seen: set[Digest],
    told: Callable[[str, int, int], None],
) -> list[Digest]:
    """Mark what the gone revisions refer to; gives their catalogs, each after one that refers to it."""
    roots = [one.digest for one in gone if one.kind is ReferenceKind.ROOT_CATALOG]
    catalogs: list[Digest] = []
    for found in walk(store, roots, seen, on_lost=_pass_over):
        told("mark", len(catalogs), 0)
        condemned.add(found.objects)
        catalogs.append(found.catalog.digest)
    condemned.add(
        object_key(one.digest, one.kind.object_kind)
        for one in gone
        if one.kind is not ReferenceKind.ROOT_CATALOG
    )
    return catalogs


@dataclass(slots=True)
class _Sweep:
    """Deletes what is not needed, and counts it."""

    store: ObjectStore
    needed: Marks
    condemned: Marks
    keeping: Keeping
    now: datetime
    result: Collected
    on_delete: Callable[[str, int], None] | None
    last: frozenset[bytes]

    def drawer(self, number: int, listed: Listed) -> None:
        """All objects of a drawer but the catalogs of gone revisions, which are the last to go."""
        needed, condemned = self.needed.drawer(number), self.condemned.drawer(number)
        going: list[tuple[str, int]] = []
        for path, status in listed:
            key = key_of_path(path)
            if key is None:
                self.result.foreign += 1
            elif key in self.last:
                continue
            elif key in needed:
                self.result.kept_objects += 1
            elif key in condemned:
                self.result.objects += 1
                going.append((path, status.size_bytes))
            elif self._is_old(status.modified_at):
                self.result.leftovers += 1
                going.append((path, status.size_bytes))
        self._delete(going)

    def catalogs(self, digests: Sequence[Digest]) -> None:
        """The catalogs of gone revisions, those that others refer to after those."""
        for digest in reversed(digests):
            path = object_path(digest, ObjectKind.CATALOG)
            status = self.store.status(path)
            if status is not None:
                self.result.catalogs += 1
                self._delete([(path, status.size_bytes)])

    def alternatives(self) -> None:
        """The copies in the store's root of what is gone."""
        going = []
        for path, status in self.store.listing(_ALTERNATIVES):
            key = parse_alternative_path(path)
            if key is not None and key not in self.needed:
                going.append((path, status.size_bytes))
        self._delete(going)

    def _is_old(self, moment: datetime) -> bool:
        limit = self.now - timedelta(days=self.keeping.leftover_days)
        if self.keeping.not_before is not None:
            limit = min(limit, self.keeping.not_before)
        return moment < limit

    def _delete(self, going: Sequence[tuple[str, int]]) -> None:
        for start in range(0, len(going), _AT_ONCE):
            some = going[start : start + _AT_ONCE]
            for path, size_bytes in some:
                self.result.freed_bytes += size_bytes
                if self.on_delete is not None:
                    self.on_delete(path, size_bytes)
            if not self.result.is_dry:
                self.store.delete(*(path for path, _ in some))


def _allow_lost(catalog: NestedCatalog, error: CvmError) -> None:
    """Of a revision that only the reflog names, catalogs may be gone; a damaged one may be mended yet."""
    if not isinstance(error, NotFoundError):
        raise error
    log.warning("revision.lost", extra=fields(digest=str(catalog.digest), error=str(error)))


def _pass_over(catalog: NestedCatalog, error: CvmError) -> None:
    """What a gone revision's lost or damaged catalog referred to is found as leftovers; a failing store ends all."""
    if not isinstance(error, NotFoundError | FormatError | TrustError):
        raise error
    log.info("revision.partly_gone", extra=fields(digest=str(catalog.digest), error=str(error)))
