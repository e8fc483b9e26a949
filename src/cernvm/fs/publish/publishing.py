"""Publishing: the one flow through which every new revision goes, and trees as the most common change.

Flow: hold the store → the last revision (`sink`) → `open_draft` → the change, whose content goes through the writer →
the dirtab's catalogs → `Draft.finish` stores what was touched → tags, reflog, whitelist and, last, the manifest
(`sink`). Until that last step the previous revision is served whole; whatever an interrupted attempt left behind, the
next one uses or ignores.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.digest import Digest
from cernvm.core.errors import InvalidInputError
from cernvm.core.log import fields
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.publish.content import ContentWriter, Progress, Recipe, open_writer
from cernvm.fs.publish.dirtab import DIRTAB_PATH
from cernvm.fs.publish.draft import Draft, open_draft
from cernvm.fs.publish.draft.catalogs import DraftCatalog
from cernvm.fs.publish.draft.finishing import Finished
from cernvm.fs.publish.draft.weighing import CatalogLimits
from cernvm.fs.publish.index import Index, open_index
from cernvm.fs.publish.marking import mark_catalogs, read_dirtab
from cernvm.fs.publish.packing import Packer
from cernvm.fs.publish.profiles import Recording, WrittenProfile, read_profiles, recording_of
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import Written
from cernvm.fs.publish.scan import Owner, TreeScan, identities_apart, read_tree_dirtab
from cernvm.fs.publish.settings import Settings
from cernvm.fs.publish.sink import RevisionSink, Served, StoreSink
from cernvm.fs.publish.transaction import check_no_transaction
from cernvm.fs.store.port import ObjectStore

log = logging.getLogger(__name__)

# What a publication does to the next revision's tree. Content that is given to the writer may be put into the draft by
# its `done`, which runs at the writer's `finish` at the latest, before anything is made of the draft.
Change = Callable[[Draft, ContentWriter], None]
_IndexedChange = Callable[[Draft, ContentWriter, Index], None]
_Record = Callable[[Sequence[Recording]], Sequence[Recording]]


@dataclass(frozen=True, slots=True)
class Options:
    """How one revision is published; what holds for all of a repository's is in its settings.

    Shape: `at` and `owner` are about trees and archives; `base` is the root catalog that is changed, the last
    revision's if None (a rollback names an older one); an empty `tag` is an automatic one; a publication that
    `is_thorough` reads all files, stores again what the store lost, and writes all catalogs;
    `workers` None for one on each core; `within_transaction` is for what the open transaction's owner does.
    Units: `wait_s` is how long another publisher may still hold the store.
    """

    at: str = "/"
    tag: str = ""
    description: str = ""
    owner: Owner | None = None
    base: Digest | None = None
    is_thorough: bool = False
    workers: int | None = None
    wait_s: float = 0.0
    within_transaction: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication did; not `is_new` where nothing changed, and the last revision stands.

    Units: `files` are regular files of the tree; `read_bytes` their content; `stored_bytes` new objects as stored.
    """

    name: str
    revision: int
    root_catalog: Digest
    tags: tuple[str, ...]
    files: int
    read_bytes: int
    stored_objects: int
    stored_bytes: int
    catalogs: int
    took_s: float
    profiles: tuple[WrittenProfile, ...] = ()
    is_new: bool = True


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
    flow = _Flow(repository, store, options or Options(), sink, progress, clock)
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
) -> Published:
    """Have what is at a path of the repository be what is in `tree`.

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
            compression=writer.recipe.compression,
            progress=done,
            at=at,
            owner=chosen.owner,
            dirtab=read_tree_dirtab(tree) if not at else read_dirtab(draft, store),
            apart=identities_apart(repository, store),
            is_thorough=chosen.is_thorough,
        ).scan(tree)

    return _Flow(repository, store, chosen, sink, done, clock).publish(scan)


def publish_profiles(
    repository: Repository,
    store: ObjectStore,
    record: _Record,
    *,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Published:
    """Publish a revision with the same tree and other profiles: `record` makes them of those that there are.

    Errors: those of `record`, before anything is written; otherwise as `publish_changes`.
    """
    flow = _Flow(repository, store, Options(), None, progress, clock)
    return flow.publish(lambda _draft, _writer, _index: None, record=record)


def parse_path(text: str) -> bytes:
    """The repository path that a person means by `/`, `/a/b` or `a/b/`; `InvalidInputError` for dots."""
    path = os.fsencode(text).strip(b"/")
    parts = path.split(b"/") if path else []
    if any(part in (b"", b".", b"..") or len(part) > 255 or b"\0" in part for part in parts):
        raise InvalidInputError(f"{text!r} is no path of a repository")
    return b"".join(b"/" + part for part in parts)


def recipe_of(repository: Repository) -> Recipe:
    """How a repository's content becomes objects."""
    settings = repository.settings
    return Recipe(
        repository.algorithm,
        Compression.NONE if settings.external else repository.compression,
        sizes=settings.sizes,
        is_external=settings.external,
        has_whole=settings.legacy_bulk_hash,
    )


class _Flow:
    """One publication."""

    def __init__(
        self,
        repository: Repository,
        store: ObjectStore,
        options: Options,
        sink: RevisionSink | None,
        progress: Progress | None,
        clock: Clock | None,
    ) -> None:
        self._repository = repository
        self._store = store
        self._options = options
        self._sink = sink or StoreSink(repository, store)
        self._progress = progress or Progress()
        self._clock = clock or SystemClock()
        self._now = self._clock.now()

    def publish(self, change: _IndexedChange, *, record: _Record | None = None) -> Published:
        started = self._clock.monotonic()
        recipe = recipe_of(self._repository)
        with (
            self._store.exclusive(self._options.wait_s),
            open_index(self._repository.index, recipe=_name_of(recipe)) as index,
        ):
            if not self._options.within_transaction:
                check_no_transaction(self._repository)
            if not self._options.within_transaction:
                check_no_transaction(self._repository)
            last = self._sink.begin(self._options.tag)
            self._now = self._clock.now()
            finished = self._make(last, change, record, recipe, index)
            served = Served(last, (), 0)
            if finished is not None or self._options.tag:
                served = self._sink.finish(
                    Written(last.root_catalog, last.root_catalog_size_bytes, 0)
                    if finished is None
                    else finished.root,
                    base=_with_settings(last, self._repository.settings),
                    tag=self._options.tag,
                    description=self._options.description,
                    now=self._now,
                )
            index.save()
        return self._published(served, finished, self._clock.monotonic() - started)

    def _make(
        self,
        last: Manifest,
        change: _IndexedChange,
        record: _Record | None,
        recipe: Recipe,
        index: Index,
    ) -> Finished | None:
        """The catalogs of the new revision; None where nothing would be new in it."""
        repository, store, options = self._repository, self._store, self._options
        before = [recording_of(one) for one in read_profiles(last.root_catalog, store)]
        recordings = before if record is None else list(record(before))
        following = _with_settings(last, repository.settings)
        with open_draft(
            repository,
            store,
            options.base or last,
            now=self._now,
            last=following,
            progress=self._progress,
        ) as draft:
            with open_writer(
                store, recipe, progress=self._progress, workers=options.workers
            ) as writer:
                self._change(draft, writer, lambda: change(draft, writer, index))
            _set_properties(draft, repository.settings)
            if options.is_thorough:
                draft.renew()
            if not (
                draft.is_changed
                or following != last
                or recordings != before
                or options.base not in (None, last.root_catalog)
            ):
                return None
            packer = Packer(repository, store, index, self._progress, is_on=repository.has_packs)
            return draft.finish(_limits(repository.settings), packer, recordings)

    def _change(self, draft: Draft, writer: ContentWriter, change: Callable[[], None]) -> None:
        """Make the change, and then the catalogs that the rules of the result want."""
        rules = draft.find(DIRTAB_PATH)
        change()
        writer.finish()
        are_other = draft.find(DIRTAB_PATH) != rules
        if are_other or draft.came:
            dirtab = read_dirtab(draft, self._store)
            mark_catalogs(draft, writer, dirtab, [b""] if are_other else draft.came)

    def _published(self, served: Served, finished: Finished | None, took_s: float) -> Published:
        progress = self._progress
        published = Published(
            name=self._repository.name,
            revision=served.manifest.revision,
            root_catalog=served.manifest.root_catalog,
            tags=served.tags,
            files=progress.files,
            read_bytes=progress.read_bytes,
            stored_objects=progress.stored_objects,
            stored_bytes=progress.stored_bytes + served.stored_bytes,
            catalogs=0 if finished is None else finished.catalogs,
            took_s=took_s,
            profiles=() if finished is None else finished.profiles,
            is_new=finished is not None,
        )
        log.info(
            "revision.published" if published.is_new else "revision.unchanged",
            extra=fields(name=published.name, revision=published.revision, took_s=took_s),
        )
        return published


def _name_of(recipe: Recipe) -> str:
    """What files are remembered for: another one would make other entries of them, a deflater would not."""
    kinds = "external" * recipe.is_external + "whole" * recipe.has_whole
    return f"{recipe.algorithm.value} {recipe.compression.name} {recipe.sizes} {kinds}"


def _limits(settings: Settings) -> CatalogLimits:
    if not settings.catalogs:
        return CatalogLimits(most_entries=1 << 62, fewest_entries=0)
    return CatalogLimits(settings.most_entries, settings.fewest_entries)


def _with_settings(last: Manifest, settings: Settings) -> Manifest:
    """The last revision's manifest, with what a setting wants to be otherwise in the next one."""
    return replace(
        last,
        ttl_s=last.ttl_s if settings.ttl_s is None else settings.ttl_s,
        garbage_collectable=last.garbage_collectable if settings.gc is None else settings.gc,
    )


def _set_properties(draft: Draft, settings: Settings) -> None:
    if settings.volatile is not None:
        draft.set_property("volatile", "1" if settings.volatile else None)
