"""What a store holds, read as values, each object checked by its digest."""

from __future__ import annotations

from cernvm.core.digest import Digest
from cernvm.core.errors import DigestMismatchError
from cernvm.fs.format.catalog import MAX_CATALOG_BYTES
from cernvm.fs.format.compress import inflate
from cernvm.fs.format.history import History, Tag
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import REFLOG_PATH, ObjectKind, object_path
from cernvm.fs.format.profile import MAX_PROFILE_BYTES, Profile, parse_profile
from cernvm.fs.format.reflog import Reference
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Catalog, parse_history, parse_reflog, unpack_catalog


def read_tags(manifest: Manifest, store: ObjectStore) -> tuple[Tag, ...]:
    """The tags of a revision, newest last as they were added."""
    return read_history(manifest, store).tags


def read_history(manifest: Manifest, store: ObjectStore) -> History:
    """The tags and branches of a revision."""
    if manifest.history is None:
        return History()
    return parse_history(read_object(store, manifest.history, ObjectKind.HISTORY))


def read_reflog(store: ObjectStore) -> tuple[Reference, ...]:
    """All root objects that the store's reflog lists; `NotFoundError` where it has none."""
    return parse_reflog(store.get(REFLOG_PATH))


def read_catalog(digest: Digest, store: ObjectStore) -> Catalog:
    """A catalog of the store."""
    return unpack_catalog(read_object(store, digest, ObjectKind.CATALOG))


def read_profile(store: ObjectStore, label: str, digest: Digest) -> Profile:
    """A profile that a root catalog names; errors as `read_object`."""
    content = read_object(store, digest, ObjectKind.PROFILE, limit_bytes=MAX_PROFILE_BYTES)
    return parse_profile(content, label=label)


def read_object(
    store: ObjectStore, digest: Digest, kind: ObjectKind, *, limit_bytes: int = MAX_CATALOG_BYTES
) -> bytes:
    """The content of a catalog, history or certificate object, which are always deflated.

    Errors: `NotFoundError`, `DigestMismatchError`, `ObjectFormatError`.
    """
    path = object_path(digest, kind)
    stored = store.get(path)
    got = digest.algorithm.digest(stored)
    if got != digest:
        raise DigestMismatchError(expected=str(digest), got=str(got), source=path)
    return inflate(stored, limit_bytes=limit_bytes)
