"""Making a repository: keys, an empty root directory, the first signed revision, the record."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from itertools import islice
from pathlib import Path

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import ExistsError, InvalidInputError, NotFoundError, TrustError
from cernvm.core.home import Home
from cernvm.core.log import fields
from cernvm.fs.format.catalog import SCHEMA_REVISION, Properties
from cernvm.fs.format.entry import DIRECTORY_SIZE_BYTES, Entry, EntryFlag
from cernvm.fs.format.manifest import DEFAULT_TTL_S, Manifest
from cernvm.fs.format.objects import MANIFEST_PATH, ObjectKind
from cernvm.fs.format.statistics import Statistics, count_entries
from cernvm.fs.publish.keys import create_keys
from cernvm.fs.publish.repository import (
    Repository,
    forget_record,
    known_repositories,
    open_storage,
    write_record,
)
from cernvm.fs.publish.revision import read_manifest, write_object, write_revision
from cernvm.fs.publish.transaction import check_no_transaction
from cernvm.fs.publish.whitelisting import renew_whitelist
from cernvm.fs.store.local import LocalStore, translate
from cernvm.fs.store.port import DELETED_AT_ONCE, ObjectStore
from cernvm.fs.survey.database import Catalog, Item, pack_catalog

log = logging.getLogger(__name__)


def create_repository(
    home: Home, repository: Repository, *, clock: Clock | None = None
) -> Manifest:
    """Make keys, storage and a first, empty, signed revision; safe to repeat after a crash.

    Existing complete keys are used. Errors: `ExistsError` for a name that is known or a storage folder that is used.
    """
    if any(known.name == repository.name for known in known_repositories(home)):
        raise ExistsError("repository", repository.name, advice="choose another name, or remove it")
    store = open_storage(repository)
    try:
        with store.exclusive():
            manifest = _adopt(repository, store)
            if manifest is None:
                manifest = _create(repository, store, clock or SystemClock())
        write_record(home, repository)
    except OSError as exc:
        raise translate(exc, Path(exc.filename or repository.storage)) from exc
    log.info("repository.created", extra=fields(name=repository.name))
    return manifest


def remove_repository(home: Home, repository: Repository) -> None:
    """Delete storage, keys, index and record of a repository; clients that hold it in their caches keep that.

    Errors: `TransactionOpenError` while a transaction is open or another publisher works.
    """
    check_no_transaction(repository)
    if repository.gateway:
        raise InvalidInputError(
            f"{repository.name} is kept elsewhere",
            advice=f"forget it: cvm repo gateway leave {repository.name}",
        )
    try:
        _remove(home, repository)
    except OSError as exc:
        raise translate(exc, Path(exc.filename or repository.storage)) from exc
    log.info("repository.removed", extra=fields(name=repository.name))


def _remove(home: Home, repository: Repository) -> None:
    store = open_storage(repository)
    if not store.has(MANIFEST_PATH) and next(store.paths(), None) is not None:
        raise InvalidInputError(
            f"{repository.storage} does not look like a repository's storage",
            advice="delete it by hand",
        )
    with store.exclusive():
        # the manifest goes first: a half-deleted repository must not be served
        store.delete(MANIFEST_PATH)
        paths = store.paths()
        while batch := tuple(islice(paths, DELETED_AT_ONCE)):
            store.delete(*batch)
    if isinstance(store, LocalStore):
        shutil.rmtree(store.folder)
    for path in (*repository.keys.files, *repository.keys.secrets):
        path.unlink(missing_ok=True)
    forget_record(home, repository)


def _adopt(repository: Repository, store: ObjectStore) -> Manifest | None:
    """The first revision of an attempt that died before it wrote the record; None where there is no manifest."""
    if not store.has(MANIFEST_PATH):
        return None
    try:
        if repository.keys.are_complete:
            manifest = read_manifest(repository, store)
            if manifest.revision == 0 and manifest.root_catalog.algorithm is repository.algorithm:
                return manifest
    except (TrustError, NotFoundError):
        pass
    raise ExistsError("repository in", repository.storage, advice="choose another --storage")


def _create(repository: Repository, store: ObjectStore, clock: Clock) -> Manifest:
    now = clock.now()
    if not repository.keys.are_complete:
        create_keys(repository.keys, now=now)
    root = Entry(
        name=b"",
        mode=stat.S_IFDIR | 0o755,
        size=DIRECTORY_SIZE_BYTES,
        mtime_s=int(now.timestamp()),
        mtime_ns=0,
        uid=os.geteuid(),
        gid=os.getegid(),
        flags=EntryFlag.DIRECTORY,
        link_count=2,
    )
    empty = Catalog(
        properties=Properties(
            schema_revision=SCHEMA_REVISION,
            revision=0,
            last_modified_s=int(now.timestamp()),
            ttl_s=DEFAULT_TTL_S,
        ),
        items=(Item(b"", root),),
        nested=(),
        statistics=Statistics(own=count_entries([(root, 0)], nested=0)),
    )
    packed = pack_catalog(empty, algorithm=repository.algorithm)
    written = write_object(repository, store, packed, ObjectKind.CATALOG)
    manifest = Manifest(
        root_catalog=written.digest,
        root_catalog_size_bytes=written.size_bytes,
        ttl_s=DEFAULT_TTL_S,
        revision=0,
        name=repository.name,
        published_at=now,
        garbage_collectable=True,
    )
    renew_whitelist(repository, store, now=now, force=True)
    signed, _ = write_revision(repository, store, manifest, tags=None, previous=None, now=now)
    return signed
