"""Opening a draft: its folder, its shelf of catalogs, and the root that it begins with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime

from cernvm.core.digest import Digest
from cernvm.core.workshop import open_workshop
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.publish.content import Progress
from cernvm.fs.publish.draft.catalogs import Shelf
from cernvm.fs.publish.draft.drafting import Draft
from cernvm.fs.publish.draft.faults import translated
from cernvm.fs.publish.repository import Repository
from cernvm.fs.store.port import ObjectStore


@contextmanager
def open_draft(
    repository: Repository,
    store: ObjectStore,
    base: Manifest | Digest,
    *,
    now: datetime,
    last: Manifest | None = None,
    progress: Progress | None = None,
) -> Iterator[Draft]:
    """A draft that begins as the tree of `base`, a revision or a root catalog.

    Shape: `last` is the revision that the new one will follow, `base` itself unless it is given.
    """
    with ExitStack() as stack:
        with translated():
            folder = stack.enter_context(open_workshop(repository.drafts))
        shelf = Shelf(store, folder)
        stack.callback(shelf.close)
        digest = base if isinstance(base, Digest) else base.root_catalog
        followed = last if last is not None or isinstance(base, Digest) else base
        with translated():
            root = shelf.load(b"", digest, None)
        yield Draft(
            repository,
            store,
            shelf,
            root,
            last=followed,
            now=now,
            progress=progress or Progress(),
        )
