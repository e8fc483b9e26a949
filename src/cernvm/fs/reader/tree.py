"""The catalogs of one revision, attached when a path below them is first looked at."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from cernvm.core.clock import Deadline
from cernvm.core.digest import Digest
from cernvm.core.errors import CatalogFormatError, HostError
from cernvm.core.log import fields
from cernvm.fs.cache import Cache, Content, ContentKey
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.reader.catalog import Catalog
from cernvm.fs.reader.objects import ObjectSource
from cernvm.fs.reader.trace import CatalogState

MAX_ATTACHED = 200
MAX_ATTACHED_BYTES = 64 << 20
MAX_REMEMBERED_FOLDERS = 16_384
MAX_CATALOG_BYTES = 1 << 30
FETCH_AGAIN_S = 60.0
MAX_UNREADABLE = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a catalog stands: `mountpoint` in the repository as it is shown, `prefix` in the catalog's own rows."""

    mountpoint: bytes
    prefix: bytes
    digest: Digest


class Catalogs:
    """Attaches catalogs; those of the last revision that the next one shares are attached once."""

    def __init__(
        self,
        objects: ObjectSource,
        cache: Cache,
        *,
        on_attach: Callable[[Catalog], None] = lambda _catalog: None,
    ) -> None:
        self._objects = objects
        self._cache = cache
        self._on_attach = on_attach
        self._living: WeakValueDictionary[tuple[str, bytes], Catalog] = WeakValueDictionary()
        self._unreadable_until_s: dict[Digest, float] = {}  # just fetched, and bad all the same

    def try_attach(self, mount: Mount) -> Catalog | None:
        """The catalog, if it need not be fetched, as one must be that has rotted on disk."""
        try:
            return self._attach_cached(mount)
        except (CatalogFormatError, HostError):
            if self._is_bad_at_its_source(mount.digest):
                raise
            return None

    def _attach_cached(self, mount: Mount) -> Catalog | None:
        key = ContentKey(mount.digest)
        living = self._living.get((key.name, mount.mountpoint))
        if living is not None and living.prefix == mount.prefix:
            return living
        content = self._objects.cached(key)
        return None if content is None else self._open(mount, content)

    def attach(self, mount: Mount, deadline: Deadline) -> Catalog:
        """The catalog, fetched if need be; a cached one that cannot be read may have rotted on disk: it is replaced."""
        key = ContentKey(mount.digest)
        self._cache.pin(key)  # until the catalog pins itself
        try:
            try:
                if (catalog := self._attach_cached(mount)) is not None:
                    return catalog
            except (CatalogFormatError, HostError) as error:
                if self._is_bad_at_its_source(mount.digest):
                    raise
                log.warning("cache.damaged", extra=fields(catalog=key.name, error=str(error)))
                self._cache.evict(key)
            content = self._objects.get(
                key, ObjectKind.CATALOG, deadline, limit_bytes=MAX_CATALOG_BYTES
            )
            try:
                return self._open(mount, content)
            except CatalogFormatError:
                if len(self._unreadable_until_s) >= MAX_UNREADABLE:
                    self._unreadable_until_s.clear()
                self._unreadable_until_s[mount.digest] = time.monotonic() + FETCH_AGAIN_S
                raise
        finally:
            self._cache.unpin(key)

    def is_cached(self, digest: Digest) -> bool:
        """Whether a catalog could be attached without the network."""
        return self._objects.cached(ContentKey(digest)) is not None

    def _is_bad_at_its_source(self, digest: Digest) -> bool:
        """Whether fetching it again would bring the same damage, as it has a moment ago."""
        return time.monotonic() < self._unreadable_until_s.get(digest, 0.0)

    def _open(self, mount: Mount, content: Content) -> Catalog:
        key = ContentKey(mount.digest)
        catalog = Catalog(
            key, content, self._cache, mountpoint=mount.mountpoint, prefix=mount.prefix
        )
        self._living[key.name, mount.mountpoint] = catalog
        self._on_attach(catalog)
        log.debug(
            "catalog.attached",
            extra=fields(mountpoint=repr(mount.mountpoint), digest=str(mount.digest)),
        )
        return catalog


class Tree:
    """Finds the catalog for a path.

    Shape: paths are absolute bytes without a slash at the end; the root is empty.
    Errors: `CatalogFormatError` from a bad catalog, and those of `ObjectSource.get`.
    Concurrency: safe from any thread; `try_` verbs never wait for the network.
    """

    def __init__(self, catalogs: Catalogs, root_catalog: Digest) -> None:
        self._catalogs = catalogs
        self._root = Mount(b"", b"", root_catalog)
        self._attached: dict[bytes, Catalog] = {}
        self._turns: dict[bytes, int] = {}
        self._turn = itertools.count()
        self._folders: dict[bytes, bytes] = {}  # directory -> mountpoint of its children's catalog
        self._lock = threading.Lock()

    def try_folder(self, path: bytes) -> Catalog | None:
        """The catalog that lists the children of a directory; None when it must be fetched."""
        mountpoint = self._folders.get(path)
        if mountpoint is not None:
            catalog = self._attached.get(mountpoint)
            if catalog is not None:
                self._turns[mountpoint] = next(self._turn)
                return catalog
        return self._descend(path, self._catalogs.try_attach)

    def folder(self, path: bytes, deadline: Deadline) -> Catalog:
        """The catalog that lists the children of a directory, fetched if need be."""
        catalog = self._descend(path, lambda mount: self._catalogs.attach(mount, deadline))
        assert catalog is not None
        return catalog

    @property
    def root(self) -> Catalog | None:
        """The root catalog, once attached."""
        return self._attached.get(b"")

    @property
    def attached_count(self) -> int:
        """How many catalogs are attached now."""
        return len(self._attached)

    def attached(self) -> tuple[Catalog, ...]:
        """The catalogs that are attached now, by their mountpoints."""
        return tuple(catalog for _, catalog in sorted(self._attached.copy().items()))

    def let_go(self) -> None:
        """Detach all catalogs, because another revision is shown; who still asks has them attached again."""
        with self._lock:
            self._attached.clear()
            self._turns.clear()
            self._folders.clear()

    def chain(self, path: bytes) -> tuple[CatalogState, ...]:
        """The catalogs from the root down to a path's, as far as they are known without the network."""
        states: list[CatalogState] = []

        def try_attach(mount: Mount) -> Catalog | None:
            is_cached = self._catalogs.is_cached(mount.digest)
            states.append(CatalogState(mount.mountpoint, mount.digest, is_cached))
            return self._attached.get(mount.mountpoint) or self._catalogs.try_attach(mount)

        self._descend(path, try_attach, is_new_look=True)
        return tuple(states)

    def _descend(
        self,
        path: bytes,
        attach: Callable[[Mount], Catalog | None],
        *,
        is_new_look: bool = False,
    ) -> Catalog | None:
        """From the root catalog down to the one that holds the children of `path`."""
        mount: Mount | None = self._root
        catalog: Catalog | None = None
        while mount is not None:
            known = None if is_new_look else self._attached.get(mount.mountpoint)
            catalog = known or attach(mount)
            if catalog is None:
                return None
            if known is None:
                self._keep(catalog)
            mount = _mount_towards(catalog, path)
        assert catalog is not None
        if len(self._folders) >= MAX_REMEMBERED_FOLDERS:
            self._folders.clear()
        self._folders[path] = catalog.mountpoint
        return catalog

    def _keep(self, catalog: Catalog) -> None:
        """Keep a catalog attached; of too many, the least recently used go (their last user closes them)."""
        with self._lock:
            self._attached[catalog.mountpoint] = catalog
            self._turns[catalog.mountpoint] = next(self._turn)
            # Other threads write turns meanwhile, without this lock: they only read `_attached`.
            by_turn = sorted(self._attached, key=lambda mountpoint: self._turns.get(mountpoint, 0))
            memory_bytes = sum(one.memory_bytes for one in self._attached.values())
            for mountpoint in by_turn:
                if len(self._attached) <= MAX_ATTACHED and memory_bytes <= MAX_ATTACHED_BYTES:
                    break
                if mountpoint and mountpoint != catalog.mountpoint:
                    memory_bytes -= self._attached.pop(mountpoint).memory_bytes
                    self._turns.pop(mountpoint, None)


def _mount_towards(catalog: Catalog, path: bytes) -> Mount | None:
    """The nested catalog, or bind mount, of `catalog` at `path` or above it; None when it is this catalog's own."""
    end = len(catalog.mountpoint)
    while end < len(path):
        next_slash = path.find(b"/", end + 1)
        end = len(path) if next_slash < 0 else next_slash
        above = path[:end]
        if (nested := catalog.nested.get(above)) is not None:
            return Mount(above, nested.path, nested.digest)
        if (bound := catalog.binds.get(above)) is not None:
            return Mount(above, b"", bound.digest)
        if above in catalog.unnamed:
            raise CatalogFormatError(
                "its catalog is of a schema that names no digest for it",
                where=repr(above[-80:]),
            )
    return None
