"""All catalogs of some revisions: each by itself, and parents against children."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from cernvm.core.digest import Digest
from cernvm.core.errors import FormatError, NotFoundError, TrustError
from cernvm.fs.format.entry import Entry, EntryFlag, NestedCatalog
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.statistics import Counters
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.check.catalog import Checked, check_catalog
from cernvm.fs.survey.check.finding import Finding
from cernvm.fs.survey.marks import object_key
from cernvm.fs.survey.reading import read_object, read_profile

_FLAGS = int(EntryFlag.NESTED_MOUNTPOINT | EntryFlag.NESTED_ROOT)


@dataclass(frozen=True, slots=True)
class _Known:
    """What parents are compared with, of a catalog that was checked."""

    root: Entry | None
    total: Counters
    size_bytes: int
    revision: int


class TreeCheck:
    """Checks the catalogs that hang on roots, each once; `catalogs` and `entries` count them.

    `take` is given the records (`catalog.Checked`) of each catalog. Memory: about 500 bytes for each catalog.
    """

    def __init__(
        self,
        store: ObjectStore,
        take: Callable[[Sequence[bytes]], None],
        told: Callable[[str, int, int], None],
    ) -> None:
        self._store = store
        self._take = take
        self._told = told
        self._known: dict[Digest, _Known | None] = {}
        self.catalogs = 0
        self.entries = 0

    def check(self, root: Digest, *, at: bytes = b"") -> Iterator[Finding]:
        """Check a revision, or of it only the catalogs on the way to `at` and those below."""
        for checked in self._walk(root, at):
            yield from checked.findings
            yield from self._against_parent(checked)

    def size_of(self, root: Digest) -> tuple[int, int] | None:
        """Bytes, inflated, and revision of a checked catalog; None where it could not be read."""
        known = self._known.get(root)
        return None if known is None else (known.size_bytes, known.revision)

    def _walk(self, root: Digest, at: bytes) -> Iterator[Checked]:
        """The catalogs that were not checked before, parents after what is below them."""
        stack: list[Checked] = []
        waiting = deque([NestedCatalog(b"", root, 0)])
        running: dict[Future[Checked], NestedCatalog] = {}
        lanes = max(2, min(16, self._store.lanes))
        pool = ThreadPoolExecutor(lanes, thread_name_prefix="check")
        try:
            while waiting or running:
                while waiting and len(running) < lanes:
                    catalog = waiting.popleft()
                    if catalog.digest not in self._known:
                        self._known[catalog.digest] = None
                        running[pool.submit(self._read, catalog)] = catalog
                if not running:
                    continue
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    del running[future]
                    checked = future.result()
                    self._remember(checked)
                    waiting.extend(n for n in checked.nested if _concerns(n.path, at))
                    stack.append(_lightened(checked))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        yield from stack

    def _read(self, catalog: NestedCatalog) -> Checked:
        place = object_path(catalog.digest, ObjectKind.CATALOG)
        try:
            data = read_object(self._store, catalog.digest, ObjectKind.CATALOG)
        except (NotFoundError, FormatError, TrustError) as error:
            return Checked(catalog, [Finding(str(error), catalog.path, place)])
        checked = check_catalog(data, catalog)
        for label, digest in checked.profiles:
            self._check_profile(checked, label, digest)
        return checked

    def _check_profile(self, checked: Checked, label: str, digest: Digest) -> None:
        """A profile, and the packs that only it knows of."""
        checked.records.append(object_key(digest, ObjectKind.PROFILE))
        place = object_path(digest, ObjectKind.PROFILE)
        try:
            profile = read_profile(self._store, label, digest)
        except NotFoundError:
            return  # told with all that is missing
        except (FormatError, TrustError) as error:
            checked.findings.append(Finding(f"profile {label}: {error}", place=place))
            return
        checked.records += [object_key(pack.digest, ObjectKind.PACK) for pack in profile.packs]

    def _remember(self, checked: Checked) -> None:
        self.catalogs += 1
        self.entries += checked.entries
        self._told("catalogs", self.catalogs, 0)
        key = object_key(checked.catalog.digest, ObjectKind.CATALOG)
        self._take([*checked.records, key])
        if checked.properties is not None:
            self._known[checked.catalog.digest] = _Known(
                checked.root,
                checked.statistics.total,
                checked.size_bytes,
                checked.properties.revision,
            )

    def _against_parent(self, checked: Checked) -> Iterator[Finding]:
        """What the catalog says of those below it, against what they are."""
        place = object_path(checked.catalog.digest, ObjectKind.CATALOG)
        totals = Counters()
        is_whole = True
        for nested in checked.nested:
            known = self._known.get(nested.digest)
            if known is None:
                is_whole = False
                continue
            totals += known.total
            if nested.size_bytes not in (0, known.size_bytes):
                text = f"the catalog below has {known.size_bytes} bytes, not {nested.size_bytes}"
                yield Finding(text, nested.path, place)
            mount = checked.mounts.get(nested.path)
            if mount is not None and known.root is not None and _plain(mount) != _plain(known.root):
                yield Finding("mountpoint and root of the catalog below differ", nested.path, place)
            if checked.properties is not None and known.revision > checked.properties.revision:
                yield Finding("the catalog below is of a later revision", nested.path, place)
        if is_whole and checked.properties is not None and totals != checked.statistics.subtree:
            yield Finding(
                f"the counters of what is below are {_shown(checked.statistics.subtree, totals)}",
                checked.catalog.path,
                place,
            )


def _concerns(path: bytes, at: bytes) -> bool:
    """Whether a nested catalog lies on the way to `at`, or below it."""
    return not at or (at + b"/").startswith(path + b"/") or path.startswith(at + b"/")


def _lightened(checked: Checked) -> Checked:
    return replace(checked, records=[])


def _plain(entry: Entry) -> Entry:
    """The entry without what tells mountpoint from root; nested in the root's catalog it has no name of its own."""
    return replace(entry, flags=entry.flags & ~_FLAGS, mtime_ns=entry.mtime_ns or 0)


def _shown(stated: Counters, counted: Counters) -> str:
    different = [
        f"{name} {getattr(stated, name)}, not {getattr(counted, name)}"
        for name in counted.__slots__
        if getattr(stated, name) != getattr(counted, name)
    ]
    return "; ".join(different)
