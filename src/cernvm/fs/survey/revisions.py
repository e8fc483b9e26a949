"""The revisions that a store still holds, with what each of them counts and changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cernvm.core.digest import Digest
from cernvm.core.errors import NotFoundError
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.reflog import ReferenceKind
from cernvm.fs.format.statistics import Counters
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.difference import Totals, diff
from cernvm.fs.survey.opened import open_catalog
from cernvm.fs.survey.reading import read_reflog, read_tags

_MAX_TIME_S = 253_402_300_799  # the last second of the year 9999


@dataclass(frozen=True, slots=True)
class StoredRevision:
    """A root catalog of the store; `total` counts all that is below it, `previous` is None where it is the first."""

    root_catalog: Digest
    number: int
    made_at: datetime
    previous: Digest | None
    total: Counters
    tags: tuple[str, ...]


def list_revisions(store: ObjectStore, manifest: Manifest) -> list[StoredRevision]:
    """All revisions that head, tags and reflog name, and that are there, the newest first; errors as `open_catalog`."""
    tags = read_tags(manifest, store)
    roots = dict.fromkeys([manifest.root_catalog, *(tag.root_catalog for tag in tags)])
    try:
        listed = read_reflog(store)
    except NotFoundError:
        listed = ()
    named = (one.digest for one in listed if one.kind is ReferenceKind.ROOT_CATALOG)
    roots.update(dict.fromkeys(named))
    found = []
    for root in roots:
        if not store.has(object_path(root, ObjectKind.CATALOG)):
            continue
        catalog = open_catalog(store, root)
        properties = catalog.properties
        found.append(
            StoredRevision(
                root,
                properties.revision,
                datetime.fromtimestamp(min(properties.last_modified_s, _MAX_TIME_S), UTC),
                properties.previous,
                catalog.statistics().total,
                tuple(tag.name for tag in tags if tag.root_catalog == root),
            )
        )
    return sorted(found, key=lambda one: (-one.number, -one.made_at.timestamp()))


def changes_of(
    store: ObjectStore, revision: StoredRevision, others: Sequence[StoredRevision]
) -> Totals | None:
    """What a revision changed in the one before it; None where that is gone."""
    if revision.previous not in {one.root_catalog for one in others}:
        return None
    assert revision.previous is not None
    totals = Totals()
    for change in diff(revision.previous, revision.root_catalog, store):
        totals.add(change)
    return totals
