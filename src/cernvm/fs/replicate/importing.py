"""`import`: a stream into a replica's store, each object verified before it is visible, and the revision served last.

A stream may be cut off, damaged, or made by somebody who wants the replica to serve what is not whole. So a catalog is
only stored once everything that it names is there, whatever the stream says, and nothing is served that the whole chain
of trust does not hold for. What came of a stream that broke off stays, and is not written again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.digest import Digest
from cernvm.core.errors import InvalidInputError, NotFoundError, ObjectFormatError
from cernvm.core.workshop import open_scratch
from cernvm.fs.format.objects import MANIFEST_PATH, WHITELIST_PATH, ObjectKind, object_path
from cernvm.fs.format.trust import open_manifest
from cernvm.fs.replicate.contents import Contents
from cernvm.fs.replicate.doubts import read_doubts, write_doubts
from cernvm.fs.replicate.presence import Presence
from cernvm.fs.replicate.replica import Replica
from cernvm.fs.replicate.replicating import read_replicated
from cernvm.fs.replicate.revealing import objects_beside, reveal
from cernvm.fs.replicate.scope import Scope
from cernvm.fs.replicate.state import (
    LAST_SNAPSHOT_PATH,
    format_date,
    note_status,
    read_state,
    write_state,
)
from cernvm.fs.replicate.stream import Header, StreamedDocument, StreamedObject, StreamReader
from cernvm.fs.replicate.upstream import Judge, Offer, check_no_older, read_judge
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.reading import read_tags


@dataclass(frozen=True, slots=True)
class Imported:
    """What a stream brought. Shape: `new_objects` of its `objects` were not in the store."""

    name: str
    revision: int
    root_catalog: Digest
    is_new: bool
    revisions: int
    objects: int
    new_objects: int


def import_stream(
    replica: Replica,
    store: ObjectStore,
    reader: StreamReader,
    *,
    wait_s: float = 0.0,
    clock: Clock | None = None,
    on_progress: Callable[[int], None] = lambda _objects: None,
) -> Imported:
    """Take in a stream, and serve its revision once all of it was verified; safe to be killed and repeated.

    Errors: `InvalidInputError` for a stream of another repository, `NotFoundError` for a difference whose base is not
    here, `RollbackError` for one that is older than what is served, `FormatError` and `TrustError` for one that is
    damaged or not to be believed. After each of them the revision before is served.
    """
    header = reader.header
    if header.name != replica.name:
        raise InvalidInputError(f"the stream is of {header.name}, not of {replica.name}")
    used = clock or SystemClock()
    with store.exclusive(wait_s):
        known = read_replicated(store, replica.name)
        doubted = read_doubts(store)
        scope = _scope(store, header, doubted)
        write_state(store, scope, is_working=True)
        judge = read_judge(
            replica.name,
            public_keys=replica.public_keys,
            second_keys=replica.second_keys,
            now=used.now(),
        )
        with open_scratch() as scratch:
            taking = _Taking(store, scratch, doubted, on_progress)
            for record in reader.records():
                taking.take(record)
        offer = taking.offer(judge, header)
        check_no_older(offer.manifest, known)
        _check_roots(store, header, offer)
        reveal(store, offer, roots=header.roots, now=used.now())
        if taking.doubted != doubted:
            write_doubts(store, taking.doubted)
        write_state(store, scope, is_working=False)
        store.replace(LAST_SNAPSHOT_PATH, f"{format_date(used.now())}\n".encode())
        note_status(store, {"last_snapshot": format_date(used.now())})
    return Imported(
        name=replica.name,
        revision=offer.manifest.revision,
        root_catalog=offer.manifest.root_catalog,
        is_new=known != offer.manifest,
        revisions=len(header.roots),
        objects=taking.objects,
        new_objects=taking.new_objects,
    )


def _scope(store: ObjectStore, header: Header, doubted: Collection[Digest]) -> Scope:
    """What the store holds whole; a catalog that is there must tell that everything below it is."""
    state = read_state(store)
    scope = Scope(tags=(), has_packs=True if state is None else state.has_packs)
    is_empty = state is None and not any(store.paths("data/"))
    if not is_empty and (state is None or not state.vouches_for(scope)):
        raise InvalidInputError(
            f"it is not certain that what is here of {header.name} is whole",
            advice="replicate all of it from an upstream, or import a full stream into an empty store",
        )
    if header.base is not None and (
        header.base in doubted or not store.has(object_path(header.base, ObjectKind.CATALOG))
    ):
        raise NotFoundError(
            "revision",
            f"{header.base_revision} ({header.base})",
            advice="the stream is what came after it: import that one first, or a full stream",
        )
    return scope


def _check_roots(store: ObjectStore, header: Header, offer: Offer) -> None:
    """Every revision of the stream must be there, and be one that the publisher vouches for."""
    manifest = offer.manifest
    if header.roots[0] != manifest.root_catalog:
        raise ObjectFormatError("it brings another revision than its manifest's", where="stream")
    for digest, kind in objects_beside(manifest):
        if not store.has(object_path(digest, kind.object_kind)):
            raise ObjectFormatError(f"it lacks {digest}{kind.object_kind.value}", where="stream")
    vouched = {manifest.root_catalog, *(tag.root_catalog for tag in read_tags(manifest, store))}
    for root in header.roots:
        if root not in vouched:
            raise ObjectFormatError(f"no tag names its revision {root}", where="stream")
        if not store.has(object_path(root, ObjectKind.CATALOG)):
            raise ObjectFormatError(f"it lacks the root catalog {root}", where="stream")


class _Taking:
    """Puts the objects of a stream as they come."""

    def __init__(
        self,
        store: ObjectStore,
        scratch: Path,
        doubted: Collection[Digest],
        on_progress: Callable[[int], None],
    ) -> None:
        self.objects = 0
        self.new_objects = 0
        self._store = store
        self._presence = Presence(store, doubted=doubted)
        self._scratch = scratch
        self._on_progress = on_progress
        self._documents: dict[str, bytes] = {}

    @property
    def doubted(self) -> set[Digest]:
        """The catalogs in the store that it did not bring, and that nobody vouches for."""
        return self._presence.doubted

    def take(self, record: StreamedObject | StreamedDocument) -> None:
        """Put an object, or keep a document for the end."""
        if isinstance(record, StreamedDocument):
            self._documents[record.path] = record.data
            return
        self.objects += 1
        if not self._presence.has(record.digest, record.kind):
            if record.kind is ObjectKind.CATALOG:
                self._check_whole(record)
            self._store.put(object_path(record.digest, record.kind), record.stored)
            self._presence.add(record.digest, record.kind)
            self.new_objects += 1
        self._on_progress(self.objects)

    def offer(self, judge: Judge, header: Header) -> Offer:
        """What the documents offer. Errors: `TrustError`, `FormatError`."""
        try:
            manifest = self._documents[MANIFEST_PATH]
            whitelist = self._documents[WHITELIST_PATH]
        except KeyError:
            raise ObjectFormatError(
                "it brings no manifest or no whitelist", where="stream"
            ) from None
        certificate = open_manifest(manifest, name=header.name).certificate
        if certificate is None:
            raise ObjectFormatError("its manifest names no certificate", where="stream")
        try:
            stored = self._store.get(object_path(certificate, ObjectKind.CERTIFICATE))
        except NotFoundError:
            raise ObjectFormatError("it lacks the certificate", where="stream") from None
        return judge.judge(manifest, whitelist, stored)

    def _check_whole(self, record: StreamedObject) -> None:
        """Refuse a catalog that names what is not here."""
        contents = Contents(record.digest, record.stored, self._scratch / "catalog")
        try:
            for nested in contents.nested:
                if not self._presence.has(nested.digest, ObjectKind.CATALOG):
                    raise _lacks(nested.digest, ObjectKind.CATALOG, record)
            for wanted in contents.objects():
                if not self._presence.has(wanted.digest, wanted.kind):
                    raise _lacks(wanted.digest, wanted.kind, record)
        finally:
            contents.close()


def _lacks(digest: Digest, kind: ObjectKind, record: StreamedObject) -> ObjectFormatError:
    return ObjectFormatError(
        f"it brings catalog {record.digest}, but neither it nor the replica has {digest}{kind.value}",
        where="stream",
    )
