"""Going back: an older revision's tree, or a part of it, in a new revision.

The number of revisions only grows, so that every client follows; what was before stays `trunk-previous`, and rolling
back to that undoes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cernvm.core.clock import Clock
from cernvm.core.errors import NotFoundError
from cernvm.fs.format.history import Tag
from cernvm.fs.publish.content import ContentWriter, Progress
from cernvm.fs.publish.draft import Draft
from cernvm.fs.publish.publishing import Options, Published, publish_changes
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.tags import change_tags, dropping_later
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.reading import read_tags
from cernvm.fs.survey.references import read_properties
from cernvm.fs.survey.wholeness import check_whole


@dataclass(frozen=True, slots=True)
class Rollback:
    """What to go back to: the tree of a revision, or what stands at and below `at` in it.

    `drops_tags` forgets the trunk's names of all revisions after it, as the original does.
    """

    target: Tag
    at: bytes = b""
    drops_tags: bool = False
    tag: str = ""
    description: str = ""
    wait_s: float = 0.0


def roll_back(
    repository: Repository,
    store: ObjectStore,
    rollback: Rollback,
    *,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Published:
    """Publish it; errors as `publish_changes`, and `NotFoundError` where nothing stood at `at` then and now."""
    target, at = rollback.target, rollback.at

    def change(draft: Draft, _writer: ContentWriter) -> None:
        tags = read_tags(read_manifest(repository, store), store)
        if all(tag.root_catalog != target.root_catalog for tag in tags):
            check_whole(store, target.root_catalog)
        if at:
            _take_back(draft, target, at)

    options = Options(
        tag=rollback.tag,
        description=rollback.description or f"as {target.name or target.revision} was",
        base=None if at else target.root_catalog,
        wait_s=rollback.wait_s,
    )
    published = publish_changes(
        repository, store, change, options=options, progress=progress, clock=clock
    )
    if rollback.drops_tags:
        # a revision that is named by its digest has no number but this
        revision = read_properties(store, target.root_catalog).revision
        later = dropping_later(revision, but=published.tags)
        change_tags(repository, store, later, wait_s=rollback.wait_s, clock=clock)
    return published


def _take_back(draft: Draft, target: Tag, at: bytes) -> None:
    then = draft.beside(target.root_catalog).find(at)
    if then is not None:
        folder = at.rpartition(b"/")[0]
        above = draft.beside(target.root_catalog).find(folder)
        if folder and above is not None:
            draft.ensure_folders(folder, above.entry)
        draft.copy(at, at, target.root_catalog)
    elif draft.find(at) is not None:
        draft.remove(at)
    else:
        raise NotFoundError("path", at.decode("utf-8", "replace"))
