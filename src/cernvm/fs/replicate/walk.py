"""The walk over a revision's catalogs, and the fetching of what the store lacks of them.

Many objects are in flight, of several catalogs at once; a catalog is put when everything below it was. The catalogs
that are open are few, whatever their number: nested ones are entered depth first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from cernvm.core.digest import Digest
from cernvm.core.errors import CatalogFormatError, HostError
from cernvm.fs.format.compress import inflate
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.pack import Pack
from cernvm.fs.format.profile import MAX_PROFILE_BYTES, parse_profile
from cernvm.fs.replicate.contents import Contents, Wanted, objects_at
from cernvm.fs.replicate.crew import Crew, Done, Job
from cernvm.fs.replicate.doubts import catalogs_there
from cernvm.fs.replicate.presence import Presence
from cernvm.fs.replicate.scope import Scope
from cernvm.fs.store.port import ObjectStore

_MAX_UNDER_WAY = 4096
_MAX_OPEN = 16
_MAX_DEPTH = 256
_GONE = (404, 410)
_OPTIONAL = frozenset(
    {ObjectKind.PACK, ObjectKind.PROFILE}
)  # replicas made by the original lack them


@dataclass(frozen=True, slots=True)
class Tally:
    """What was done. Units: `received_bytes` as objects are stored; `lost` are revisions that the upstream lacks."""

    catalogs: int = 0
    objects: int = 0
    received_bytes: int = 0
    lost: int = 0


@dataclass(eq=False, slots=True)
class _Latch:
    """Something to be done once nothing is pending any more; whoever makes one settles it once."""

    then: Callable[[], None]
    pending: int = 1


@dataclass(eq=False, slots=True)
class _Node:
    """A catalog on its way into the store, and what waits for its being there."""

    digest: Digest
    path: bytes
    size_bytes: int
    depth: int = 0
    waiting: list[_Latch] = field(default_factory=list)


class Walk:
    """Brings whole revisions into a store.

    Shape: `trusts_presence` whether a catalog in the store, unless it is `doubted`, means that all below it is there;
    otherwise such catalogs are read, too; if it `repairs`, every object is. `scratch` is a folder for open catalogs.
    Errors: of the fetcher, of the store, and `CatalogFormatError`; what came stays.
    """

    def __init__(
        self,
        store: ObjectStore,
        crew: Crew,
        scope: Scope,
        scratch: Path,
        *,
        trusts_presence: bool,
        doubted: Iterable[Digest] = (),
        repairs: bool = False,
        on_progress: Callable[[Tally], None] = lambda _: None,
    ) -> None:
        self.tally = Tally()
        self._store = store
        self._crew = crew
        self._scope = scope
        self._scratch = scratch
        self._trusts_presence = trusts_presence
        self._on_progress = on_progress
        self._presence = Presence(
            store, repairs=repairs, doubted=doubted if trusts_presence else ()
        )
        self._numbers = count()
        self._nodes: dict[Digest, _Node] = {}
        self._complete: set[Digest] = set()  # of those that are read though they are there
        self._to_enter: list[_Node] = []
        self._open = 0  # catalogs that were entered and not yet listed
        self._to_list: deque[tuple[Iterator[Wanted], _Latch]] = deque()
        self._waiting: dict[tuple[Digest, ObjectKind], list[_Latch]] = {}
        self._profiles: dict[Digest, tuple[str, _Latch]] = {}
        self._ready: deque[_Latch] = deque()

    def bring(self, root: Digest, size_bytes: int, *, may_miss: bool = False) -> bool:
        """Bring one revision by its root catalog; False where `may_miss` and no mirror has all of it any more."""
        self._to_enter.append(_Node(root, b"", size_bytes))
        try:
            while self._step():
                self._on_progress(self.tally)
        except HostError as error:
            if not (may_miss and _is_gone(error)):
                raise
            self._give_up()
            return False
        return True

    def fetch(self, digest: Digest, kind: ObjectKind, size_bytes: int) -> bytes:
        """A single object's bytes as stored, of the store or else of the mirrors; `put` puts them."""
        if self._presence.has(digest, kind):
            return self._store.get(object_path(digest, kind))
        self._crew.give(Job(digest, kind, size_bytes, is_kept=False), first=True)
        done = self._crew.take()
        if done.error is not None:
            raise done.error
        self._count(done)
        return done.stored

    def put(self, digest: Digest, kind: ObjectKind, stored: bytes) -> None:
        """Put an object whose digest is right, if it is not there."""
        if not self._presence.has(digest, kind):
            self._store.put(object_path(digest, kind), stored)
            self._presence.add(digest, kind)
            self.tally = replace(self.tally, objects=self.tally.objects + 1)

    def doubted(self) -> set[Digest]:
        """The catalogs in the store that were neither believed nor looked into."""
        if self._trusts_presence:
            return self._presence.doubted
        return {one for one in catalogs_there(self._store) if one not in self._complete}

    def _step(self) -> bool:
        """Do what can be done, and take in one object; False when nothing is left."""
        while self._ready:
            self._ready.popleft().then()
        self._enter_some()
        self._list_some()
        if self._crew.under_way:
            self._arrived(self._crew.take())
            return True
        return bool(self._ready or self._to_enter or self._to_list)

    def _settle(self, latches: Iterable[_Latch]) -> None:
        for latch in latches:
            latch.pending -= 1
            if not latch.pending:
                self._ready.append(latch)

    def _enter_some(self) -> None:
        """Begin with catalogs, the deepest first, as long as few are open."""
        while self._to_enter and self._open < _MAX_OPEN:
            node = self._to_enter.pop()
            known = self._nodes.get(node.digest)
            if known is not None:
                known.waiting += node.waiting
            elif node.digest in self._complete:
                self._settle(node.waiting)
            elif not self._presence.has(node.digest, ObjectKind.CATALOG):
                self._nodes[node.digest] = node
                self._open += 1
                job = Job(node.digest, ObjectKind.CATALOG, node.size_bytes, is_kept=False)
                self._crew.give(job, first=True)
            elif self._trusts_presence:
                self._settle(node.waiting)
            else:
                self._nodes[node.digest] = node
                self._open += 1
                path = object_path(node.digest, ObjectKind.CATALOG)
                self._read(node, self._store.get(path))

    def _read(self, node: _Node, stored: bytes) -> None:
        """Read a catalog that is verified: its packs are asked for at once, its objects in its turn."""
        if node.depth > _MAX_DEPTH:
            raise CatalogFormatError("catalogs are nested too deep", where=repr(node.path[-80:]))
        contents = Contents(node.digest, stored, self._scratch / f"catalog-{next(self._numbers)}")
        contents.check_place(node.path)
        whole = _Latch(lambda: self._finish(node, stored))
        for nested in contents.nested:
            if self._scope.touches(nested.path):
                whole.pending += 1
                below = _Node(
                    nested.digest, nested.path, nested.size_bytes, node.depth + 1, [whole]
                )
                self._to_enter.append(below)
        if not self._scope.holds(node.path):
            contents.close()
            self._to_list.append((objects_at(stored, self._scope.holds), whole))
            return
        # what is in packs is not asked for by itself
        unpacked = _Latch(lambda: self._to_list.append((_listed(contents), whole)))
        if self._scope.has_packs:
            for pack in contents.packs:
                self._want(_pack_job(pack), unpacked)
            for label, digest in contents.profiles.items():
                self._want_profile(label, digest, whole)
        self._settle([unpacked])

    def _list_some(self) -> None:
        """Ask for the objects of open catalogs, as long as not too many are under way."""
        while self._to_list and self._crew.under_way < _MAX_UNDER_WAY:
            objects, whole = self._to_list[0]
            for wanted in objects:
                self._want(Job(wanted.digest, wanted.kind, wanted.size_bytes), whole)
                if self._crew.under_way >= _MAX_UNDER_WAY:
                    return
            self._to_list.popleft()
            self._open -= 1
            self._settle([whole])

    def _want(self, job: Job, latch: _Latch) -> None:
        """Have an object that the store lacks fetched; the latch waits for it."""
        key = (job.digest, job.kind)
        others = self._waiting.get(key)
        if others is None:
            if self._presence.has(*key):
                return
            others = self._waiting[key] = []
            self._crew.give(job)
        others.append(latch)
        latch.pending += 1

    def _want_profile(self, label: str, digest: Digest, whole: _Latch) -> None:
        """Have a profile fetched, which then asks for its packs."""
        if digest in self._profiles:
            return
        is_there = self._presence.has(digest, ObjectKind.PROFILE)
        if is_there and self._trusts_presence:
            return
        self._profiles[digest] = (label, whole)
        whole.pending += 1
        if is_there:
            self._open_profile(digest, self._store.get(object_path(digest, ObjectKind.PROFILE)))
        else:
            self._crew.give(Job(digest, ObjectKind.PROFILE, MAX_PROFILE_BYTES // 16, is_kept=False))

    def _open_profile(self, digest: Digest, stored: bytes) -> None:
        label, whole = self._profiles[digest]
        profile = parse_profile(inflate(stored, limit_bytes=MAX_PROFILE_BYTES), label=label)

        def finish() -> None:
            self.put(digest, ObjectKind.PROFILE, stored)
            self._settle([whole])

        packed = _Latch(finish)
        for pack in profile.packs:
            self._want(_pack_job(pack), packed)
        self._settle([packed])

    def _arrived(self, done: Done) -> None:
        job = done.job
        if job.kind is ObjectKind.CATALOG:
            self._catalog_arrived(done)
            return
        if done.error is not None and not (job.kind in _OPTIONAL and _is_gone(done.error)):
            raise done.error
        self._count(done)
        if job.kind is ObjectKind.PROFILE:
            if done.error is None:
                self._open_profile(job.digest, done.stored)
            else:
                self._settle([self._profiles[job.digest][1]])
            return
        if done.error is None:
            self._presence.add(job.digest, job.kind)
        self._settle(self._waiting.pop((job.digest, job.kind)))

    def _catalog_arrived(self, done: Done) -> None:
        node = self._nodes[done.job.digest]
        if done.error is not None:
            raise done.error
        self._count(done)
        self._read(node, done.stored)

    def _give_up(self) -> None:
        """Leave a revision of which the upstream has only a part; what came stays."""
        while self._crew.under_way:
            done = self._crew.take()
            if done.error is None:
                self._count(done)
        for waiting in (self._nodes, self._waiting, self._profiles, self._ready):
            waiting.clear()
        self._to_enter.clear()
        self._to_list.clear()
        self._open = 0
        self.tally = replace(self.tally, lost=self.tally.lost + 1)

    def _finish(self, node: _Node, stored: bytes) -> None:
        """Everything below a catalog is there: so may it be."""
        self.put(node.digest, ObjectKind.CATALOG, stored)
        self.tally = replace(self.tally, catalogs=self.tally.catalogs + 1)
        if not self._trusts_presence:
            self._complete.add(node.digest)
        del self._nodes[node.digest]
        self._settle(node.waiting)

    def _count(self, done: Done) -> None:
        self.tally = replace(
            self.tally,
            objects=self.tally.objects + done.put_objects,
            received_bytes=self.tally.received_bytes + done.received_bytes,
        )


def _listed(contents: Contents) -> Iterator[Wanted]:
    """The objects of an open catalog, which is closed behind them."""
    try:
        yield from contents.objects()
    finally:
        contents.close()


def _pack_job(pack: Pack) -> Job:
    return Job(pack.digest, ObjectKind.PACK, pack.size_bytes, pack=pack)


def _is_gone(error: BaseException) -> bool:
    return isinstance(error, HostError) and error.status in _GONE
