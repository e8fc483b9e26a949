"""`replicate`: bring a replica to what its upstream offers, and serve that only once all of it is there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cernvm.core.clock import Clock, Deadline, SystemClock
from cernvm.core.digest import Digest
from cernvm.core.errors import FormatError, HostError, InvalidInputError, NotFoundError, TrustError
from cernvm.core.log import fields
from cernvm.core.workshop import open_scratch
from cernvm.fs.format.catalog import MAX_CATALOG_BYTES
from cernvm.fs.format.compress import inflate
from cernvm.fs.format.history import Tag
from cernvm.fs.format.letter import parse_letter
from cernvm.fs.format.manifest import Manifest, parse_manifest
from cernvm.fs.format.objects import MANIFEST_PATH, WHITELIST_PATH, ObjectKind
from cernvm.fs.format.reflog import ReferenceKind
from cernvm.fs.peers import open_peers
from cernvm.fs.replicate.crew import DEFAULT_THREADS, Crew
from cernvm.fs.replicate.doubts import read_doubts, write_doubts
from cernvm.fs.replicate.peering import StoreHoldings
from cernvm.fs.replicate.replica import Replica
from cernvm.fs.replicate.revealing import check_root, objects_beside, reveal
from cernvm.fs.replicate.state import (
    IS_SNAPSHOTTING_PATH,
    LAST_SNAPSHOT_PATH,
    format_date,
    note_status,
    read_state,
    write_state,
)
from cernvm.fs.replicate.upstream import Judge, Offer, read_judge, read_offer
from cernvm.fs.replicate.walk import Tally, Walk
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import unpack_history
from cernvm.fs.survey.references import read_properties
from cernvm.net import Fetcher, NetSettings, open_fetcher

ROOT_DOCUMENTS_S = 60.0
_MAX_SMALL_BYTES = 64 << 20
_ATTEMPTS = 3  # while the upstream changes under our hands

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Replicated:
    """What a replication did.

    Shape: `is_new` whether the replica serves another revision than before; `lost_revisions` are tagged or earlier
    ones that the upstream does not have any more; `peer_objects` came from peers.
    Units: `received_bytes` of objects as they are stored.
    """

    name: str
    revision: int
    root_catalog: Digest
    is_new: bool
    revisions: int
    lost_revisions: int
    catalogs: int
    objects: int
    peer_objects: int
    received_bytes: int
    whitelist_expires_at: datetime
    took_s: float


def replicate(
    replica: Replica,
    store: ObjectStore,
    *,
    threads: int = DEFAULT_THREADS,
    repairs: bool = False,
    wait_s: float = 0.0,
    clock: Clock | None = None,
    fetcher: Fetcher | None = None,
    on_progress: Callable[[Tally], None] = lambda _: None,
) -> Replicated:
    """Copy what the replica's scope wants of the upstream's newest revision; safe to be killed and repeated.

    If it `repairs`, all objects that are here are read, and copied again where they are damaged or missing.
    Errors: `TransactionOpenError` while another replication holds the store; `TrustError` and `FormatError` for an
    upstream that is not to be believed, `HostError` and `DeadlineError` for one that is not there, those of the store.
    After each of them the revision before is served.
    """
    if not replica.urls:
        raise InvalidInputError(
            f"{replica.name} has no upstream", advice="cvm repo import brings it, or name its URL"
        )
    used = clock or SystemClock()
    judge = read_judge(
        replica.name,
        public_keys=replica.public_keys,
        second_keys=replica.second_keys,
        now=used.now(),
    )
    own = fetcher or open_fetcher(_settings(replica, threads), replica.name)
    try:
        with store.exclusive(wait_s):
            return _Replication(
                replica, store, own, judge, used, threads, on_progress, repairs=repairs
            ).run()
    finally:
        if fetcher is None:
            own.close()


def read_replicated(store: ObjectStore, name: str) -> Manifest | None:
    """The manifest that a replica serves; None where it serves none yet.

    It was verified when it came; who does not trust the store verifies it again.
    """
    try:
        manifest = parse_manifest(parse_letter(store.get(MANIFEST_PATH), where="manifest").text)
    except NotFoundError:
        return None
    if manifest.name != name:
        raise FormatError(f"it is of {manifest.name[:255]!r}, not {name!r}", where="manifest")
    return manifest


class _Replication:
    """One run, by whoever holds the store."""

    def __init__(
        self,
        replica: Replica,
        store: ObjectStore,
        fetcher: Fetcher,
        judge: Judge,
        clock: Clock,
        threads: int,
        on_progress: Callable[[Tally], None],
        *,
        repairs: bool,
    ) -> None:
        self._replica = replica
        self._store = store
        self._fetcher = fetcher
        self._judge = judge
        self._clock = clock
        self._threads = threads
        self._on_progress = on_progress
        self._repairs = repairs
        self._began_s = clock.monotonic()
        self._peer_objects = 0

    def run(self) -> Replicated:
        known = read_replicated(self._store, self._replica.name)
        offer = self._offer(known)
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._take(offer, known)
            except HostError as error:
                # what an upstream collected while it was copied is not missing in its newest revision
                newer = self._offer(known)
                if newer.manifest == offer.manifest:
                    raise
                log.info("replicate.again", extra=fields(name=self._replica.name, cause=str(error)))
                offer = newer
        return self._take(offer, known)

    def _offer(self, known: Manifest | None) -> Offer:
        deadline = Deadline.after(ROOT_DOCUMENTS_S, self._clock)
        return read_offer(self._fetcher, self._judge, known=known, deadline=deadline)

    def _take(self, offer: Offer, known: Manifest | None) -> Replicated:
        scope = self._replica.scope
        state = read_state(self._store)
        is_new = known is None or known.root_catalog != offer.manifest.root_catalog
        is_empty = state is None and not any(self._store.paths("data/"))
        is_believed = is_empty or (state is not None and state.vouches_for(scope))
        trusts_presence = is_believed and not self._repairs
        is_done = state is not None and state.is_done(scope) and not self._repairs
        if known == offer.manifest and is_done and self._has_root(offer):
            return self._finished(offer, Tally(), 0, is_new=False)
        doubted = read_doubts(self._store)
        self._store.replace(IS_SNAPSHOTTING_PATH, _line(self._clock.now()))
        write_state(self._store, scope, is_working=True, trusts_presence=trusts_presence)
        try:
            with (
                open_scratch() as scratch,
                open_peers(
                    self._replica.peers,
                    self._replica.name,
                    self._fetcher,
                    holdings=StoreHoldings(self._store),
                ) as peers,
                Crew(peers.fetcher, self._store, threads=self._threads, clock=self._clock) as crew,
            ):
                walk = Walk(
                    self._store,
                    crew,
                    scope,
                    scratch,
                    trusts_presence=trusts_presence,
                    doubted=doubted,
                    repairs=self._repairs,
                    on_progress=self._on_progress,
                )
                brought = self._bring(walk, offer)
                self._publish(walk, offer, brought)
                self._peer_objects += peers.counter.now.fetched
        finally:
            self._store.delete(IS_SNAPSHOTTING_PATH)
        if (left := walk.doubted()) != doubted:
            write_doubts(self._store, left)
        write_state(self._store, scope, is_working=False)
        return self._finished(offer, walk.tally, len(brought), is_new=is_new)

    def _has_root(self, offer: Offer) -> bool:
        """Whether the root catalog, where a second key asks for it, is there and the right one."""
        try:
            check_root(self._store, offer)
        except (TrustError, FormatError, NotFoundError) as error:
            log.warning("replicate.root", extra=fields(name=self._replica.name, cause=str(error)))
            return False
        return True

    def _bring(self, walk: Walk, offer: Offer) -> list[Digest]:
        """The newest revision, then what else the scope wants; the root catalogs that are there in the end."""
        manifest = offer.manifest
        walk.bring(manifest.root_catalog, manifest.root_catalog_size_bytes)
        brought = [manifest.root_catalog]
        for tag in self._replica.scope.wanted_tags(self._tags(walk, manifest)):
            if tag.root_catalog not in brought and walk.bring(
                tag.root_catalog, tag.size_bytes, may_miss=True
            ):
                brought.append(tag.root_catalog)
        brought += self._bring_history(walk, manifest, brought)
        return brought

    def _bring_history(
        self, walk: Walk, manifest: Manifest, brought: Sequence[Digest]
    ) -> list[Digest]:
        """The revisions before the newest one, as far back as they are wanted and the upstream has them."""
        found: list[Digest] = []
        digest = read_properties(self._store, manifest.root_catalog).previous
        while digest is not None and self._replica.scope.history not in (0, len(found)):
            if digest in found or not walk.bring(
                digest, manifest.root_catalog_size_bytes, may_miss=True
            ):
                break
            found.append(digest)
            digest = read_properties(self._store, digest).previous
        return [one for one in found if one not in brought]

    def _tags(self, walk: Walk, manifest: Manifest) -> tuple[Tag, ...]:
        if manifest.history is None:
            return ()
        stored = walk.fetch(manifest.history, ObjectKind.HISTORY, _MAX_SMALL_BYTES)
        return unpack_history(inflate(stored, limit_bytes=MAX_CATALOG_BYTES))

    def _publish(self, walk: Walk, offer: Offer, brought: Sequence[Digest]) -> None:
        """Put what hangs on the manifest beside its catalog, and the manifest last."""
        for digest, kind in objects_beside(offer.manifest):
            if kind is ReferenceKind.CERTIFICATE:
                stored = offer.certificate_bytes
            else:
                stored = walk.fetch(digest, kind.object_kind, _MAX_SMALL_BYTES)
            walk.put(digest, kind.object_kind, stored)
        reveal(self._store, offer, roots=brought, now=self._clock.now())

    def _finished(self, offer: Offer, tally: Tally, revisions: int, *, is_new: bool) -> Replicated:
        """Note that the replica was up to date at this moment; a whitelist is renewed more often than a manifest."""
        now = self._clock.now()
        if not is_new and _differs(self._store, WHITELIST_PATH, offer.whitelist_bytes):
            self._store.replace(WHITELIST_PATH, offer.whitelist_bytes)
        self._store.replace(LAST_SNAPSHOT_PATH, _line(now))
        note_status(self._store, {"last_snapshot": format_date(now)})
        manifest = offer.manifest
        log.info(
            "replicate.done",
            extra=fields(name=manifest.name, revision=manifest.revision, objects=tally.objects),
        )
        return Replicated(
            name=manifest.name,
            revision=manifest.revision,
            root_catalog=manifest.root_catalog,
            is_new=is_new,
            revisions=revisions,
            lost_revisions=tally.lost,
            catalogs=tally.catalogs,
            objects=tally.objects,
            peer_objects=self._peer_objects,
            received_bytes=tally.received_bytes,
            whitelist_expires_at=offer.whitelist.expires_at,
            took_s=self._clock.monotonic() - self._began_s,
        )


def _settings(replica: Replica, threads: int) -> NetSettings:
    return NetSettings(
        ";".join(replica.urls),
        proxies=replica.proxies,
        follow_redirects=True,
        max_background=max(1, threads),
    )


def _differs(store: ObjectStore, path: str, data: bytes) -> bool:
    try:
        return store.get(path) != data
    except NotFoundError:
        return True


def _line(moment: datetime) -> bytes:
    return f"{format_date(moment)}\n".encode()
