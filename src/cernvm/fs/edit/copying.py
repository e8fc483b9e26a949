"""A copy of a subtree inside a repository: rows of catalogs only, no content is read."""

from __future__ import annotations

import os

from cernvm.core.clock import Clock
from cernvm.core.digest import Digest
from cernvm.core.errors import ExistsError, InvalidInputError, NotFoundError
from cernvm.fs.gateway.joining import open_publication
from cernvm.fs.publish.content import ContentWriter, Progress
from cernvm.fs.publish.draft import Draft
from cernvm.fs.publish.publishing import Options, Published, publish_changes
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.reading import read_tags


def publish_copy(
    repository: Repository,
    store: ObjectStore,
    source: bytes,
    target: bytes,
    *,
    of_tag: str = "",
    replaces: bool = False,
    options: Options | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Published:
    """Publish a revision in which `target` is a copy of `source`, as it is or as it was in a tagged revision.

    Errors: `NotFoundError` for a source or tag; `ExistsError` where something stands at the target, unless it
    `replaces` that; those of `publish_changes`.
    """
    root = _root_of(repository, store, of_tag) if of_tag else None

    def change(draft: Draft, _writer: ContentWriter) -> None:
        copy_subtree(draft, source, target, root=root, replaces=replaces)

    within = os.fsdecode(target.rpartition(b"/")[0])
    repository, store, sink = open_publication(repository, within)
    return publish_changes(
        repository, store, change, options=options, sink=sink, progress=progress, clock=clock
    )


def copy_subtree(
    draft: Draft,
    source: bytes,
    target: bytes,
    *,
    root: Digest | None = None,
    replaces: bool = False,
) -> None:
    """Have a draft's `target` be a copy of `source`; folders on the way to it are made. Errors: as `publish_copy`."""
    if not target:
        raise InvalidInputError(
            "the repository's root cannot be a copy", advice="name a path below"
        )
    item = (draft if root is None else draft.beside(root)).find(source)
    if item is None:
        raise NotFoundError("path in the repository", os.fsdecode(source) or "/")
    if not replaces and draft.find(target) is not None:
        raise ExistsError(
            "path", os.fsdecode(target), advice="choose another one, or say --replace"
        )
    draft.ensure_folders(target.rpartition(b"/")[0], item.entry)
    draft.copy(source, target, root)


def _root_of(repository: Repository, store: ObjectStore, tag: str) -> Digest:
    manifest = read_manifest(repository, store)
    for known in read_tags(manifest, store):
        if known.name == tag:
            return known.root_catalog
    raise NotFoundError("tag", tag, advice=f"cvm repo tags {repository.name} lists them")
