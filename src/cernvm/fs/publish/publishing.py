"""Publishing: the one flow through which every new revision goes, and trees as the most common change.

Flow: hold the store → the last revision (`sink`) → `open_draft` → the change, whose content goes through the writer →
the dirtab's catalogs → `Draft.finish` stores what was touched → tags, reflog, whitelist and, last, the manifest
(`sink`). Until that last step the previous revision is served whole; whatever an interrupted attempt left behind, the
next one uses or ignores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cernvm.core.clock import Clock
from cernvm.core.errors import InvalidInputError
from cernvm.fs.publish.content import ContentWriter, Progress
from cernvm.fs.publish.draft import Draft
from cernvm.fs.publish.flow import Flow, Record, recipe_of
from cernvm.fs.publish.index import Index
from cernvm.fs.publish.marking import read_dirtab
from cernvm.fs.publish.options import Options, Published
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.scan import TreeScan, identities_apart, read_tree_dirtab
from cernvm.fs.publish.sink import RevisionSink
from cernvm.fs.store.port import ObjectStore

__all__ = [
    "Change",
    "Options",
    "Published",
    "parse_path",
    "publish_changes",
    "publish_profiles",
    "publish_tree",
    "recipe_of",
]

# What a publication does to the next revision's tree. Content that is given to the writer may be put into the draft by
# its `done`, which runs at the writer's `finish` at the latest, before anything is made of the draft.
Change = Callable[[Draft, ContentWriter], None]


def publish_changes(
    repository: Repository,
    store: ObjectStore,
    change: Change,
    *,
    options: Options | None = None,
    sink: RevisionSink | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Published:
    """Publish what `change` makes of the last revision; returns once the new one is served and durable.

    A change that changes nothing makes no revision; a tag that was asked for is then set on the last one.
    Errors: `TransactionOpenError` while another publisher is at work, `ExistsError` for a tag that exists, those of
    `change`, `SpaceError`; the last revision then stands.
    """
    flow = Flow(repository, store, options or Options(), sink, progress, clock)
    return flow.publish(lambda draft, writer, _index: change(draft, writer))


def publish_tree(
    repository: Repository,
    store: ObjectStore,
    tree: Path,
    *,
    options: Options | None = None,
    sink: RevisionSink | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
    settled: Callable[[], None] | None = None,
) -> Published:
    """Have what is at a path of the repository be what is in `tree`.

    Shape: `settled` is called when all of the tree was read; its error keeps it from being published.
    Errors: also `InvalidInputError`, `DeniedError` and `NotFoundError` about the tree; otherwise as `publish_changes`.
    """
    chosen, done = options or Options(), progress or Progress()
    at = parse_path(chosen.at)

    def scan(draft: Draft, writer: ContentWriter, index: Index) -> None:
        TreeScan(
            draft=draft,
            writer=writer,
            index=index,
            store=store,
            settings=repository.settings,
            progress=done,
            at=at,
            owner=chosen.owner,
            dirtab=read_tree_dirtab(tree) if not at else read_dirtab(draft, store),
            apart=identities_apart(repository, store),
            is_thorough=chosen.is_thorough,
        ).scan(tree)
        writer.finish()
        if settled is not None:
            settled()

    return Flow(repository, store, chosen, sink, done, clock).publish(scan)


def publish_profiles(
    repository: Repository,
    store: ObjectStore,
    record: Record,
    *,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Published:
    """Publish a revision with the same tree and other profiles: `record` makes them of those that there are.

    Errors: those of `record`, before anything is written; otherwise as `publish_changes`.
    """
    flow = Flow(repository, store, Options(), None, progress, clock)
    return flow.publish(lambda _draft, _writer, _index: None, record=record)


def parse_path(text: str) -> bytes:
    """The repository path that a person means by `/`, `/a/b` or `a/b/`; `InvalidInputError` for dots."""
    path = os.fsencode(text).strip(b"/")
    parts = path.split(b"/") if path else []
    if any(part in (b"", b".", b"..") or len(part) > 255 or b"\0" in part for part in parts):
        raise InvalidInputError(f"{text!r} is no path of a repository")
    return b"".join(b"/" + part for part in parts)
