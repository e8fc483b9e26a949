"""One publication from its beginning to its end, whatever it changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.log import fields
from cernvm.core.workshop import open_scratch
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.deflater import find_deflater
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.publish.content import ContentWriter, Progress, Recipe, open_writer
from cernvm.fs.publish.dirtab import DIRTAB_PATH
from cernvm.fs.publish.draft import Draft, open_draft
from cernvm.fs.publish.draft.finishing import Finished
from cernvm.fs.publish.draft.weighing import CatalogLimits
from cernvm.fs.publish.hooks import Hook, find_hooks, run_hooks
from cernvm.fs.publish.index import Index, open_index
from cernvm.fs.publish.marking import mark_catalogs, read_dirtab
from cernvm.fs.publish.options import Options, Published
from cernvm.fs.publish.packing import Packer
from cernvm.fs.publish.profiles import Recording, read_profiles, recording_of
from cernvm.fs.publish.rehearsal import RehearsalStore
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import Written
from cernvm.fs.publish.settings import Settings
from cernvm.fs.publish.sink import RevisionSink, Served, StoreSink
from cernvm.fs.publish.snapshots import keep_snapshots
from cernvm.fs.publish.transaction import check_no_transaction
from cernvm.fs.store.port import ObjectStore

if TYPE_CHECKING:
    from cernvm.fs.survey.difference import Change as Difference

log = logging.getLogger(__name__)

IndexedChange = Callable[[Draft, ContentWriter, Index], None]
Record = Callable[[Sequence[Recording]], Sequence[Recording]]


def recipe_of(repository: Repository) -> Recipe:
    """How a repository's content becomes objects."""
    settings = repository.settings
    return Recipe(
        repository.algorithm,
        Compression.NONE if settings.external else repository.compression,
        find_deflater(settings.deflate),
        sizes=settings.sizes,
        is_external=settings.external,
        has_whole=settings.legacy_bulk_hash,
    )


class Flow:
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

    def publish(self, change: IndexedChange, *, record: Record | None = None) -> Published:
        """Do it; the errors are those of `publish_changes`."""
        started = self._clock.monotonic()
        recipe = recipe_of(self._repository)
        with (
            self._store.exclusive(self._options.wait_s),
            open_index(
                self._repository.index, recipe=_name_of(recipe, self._repository.settings)
            ) as index,
        ):
            if not self._options.within_transaction:
                check_no_transaction(self._repository)
            last = self._sink.begin(self._options.tag)
            self._now = self._clock.now()
            made = partial(self._make, last, change, record, recipe, index)
            if self._options.rehearse is not None:
                return self._rehearse(last, made, self._options.rehearse, started)
            event = self._event(last)
            find_hooks(self._repository, Hook.AFTER)  # what is wrong with those is told in time
            run_hooks(self._repository, Hook.BEFORE, event)
            finished = made(self._store)
            served = self._serve(last, finished)
            index.save()
        published = self._published(served, finished, started)
        if published.is_new:
            outcome = {
                "revision": published.revision,
                "root_hash": str(published.root_catalog),
                "tags": list(published.tags),
            }
            run_hooks(self._repository, Hook.AFTER, event | outcome)
        return published

    def _serve(self, last: Manifest, finished: Finished | None) -> Served:
        if finished is None and not self._options.tag:
            return Served(last, (), 0)
        same = Written(last.root_catalog, last.root_catalog_size_bytes, 0)
        return self._sink.finish(
            same if finished is None else finished.root,
            base=_with_settings(last, self._repository.settings),
            tag=self._options.tag,
            description=self._options.description,
            now=self._now,
        )

    def _rehearse(
        self,
        last: Manifest,
        made: Callable[[ObjectStore], Finished | None],
        tell: Callable[[Difference], None],
        started: float,
    ) -> Published:
        """Make the revision where nobody sees it, and tell what it would change."""
        from cernvm.fs.survey.difference import diff  # noqa: PLC0415  # all of the reader comes with it

        with open_scratch() as folder:
            store = RehearsalStore(self._store, folder)
            finished = made(store)
            if finished is not None:
                for one in diff(last.root_catalog, finished.root.digest, store):
                    tell(one)
        return self._published(Served(last, (), 0), finished, started)

    def _event(self, last: Manifest) -> dict[str, object]:
        """What hooks are told."""
        return {
            "name": self._repository.name,
            "last_revision": last.revision,
            "last_root_hash": str(last.root_catalog),
            "at": self._options.at,
            "tag": self._options.tag,
            "message": self._options.description,
        }

    def _make(
        self,
        last: Manifest,
        change: IndexedChange,
        record: Record | None,
        recipe: Recipe,
        index: Index,
        store: ObjectStore,
    ) -> Finished | None:
        """The catalogs of the new revision; None where nothing would be new in it."""
        repository, options = self._repository, self._options
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
                _change(draft, writer, store, lambda: change(draft, writer, index))
            _set_properties(draft, repository.settings)
            if options.is_thorough:
                draft.renew()
            is_new = (
                draft.is_changed
                or following != last
                or recordings != before
                or options.base not in (None, last.root_catalog)
            )
            shown = repository.settings.virtual_snapshots
            keep_snapshots(draft, store, last, shown, is_new=is_new, now=self._now)
            if not (is_new or draft.is_changed):
                return None
            packer = None
            if options.rehearse is None:  # packs are made of what is stored
                packer = Packer(
                    repository, store, index, self._progress, is_on=repository.has_packs
                )
            return draft.finish(_limits(repository.settings), packer, recordings)

    def _published(self, served: Served, finished: Finished | None, started: float) -> Published:
        progress, took_s = self._progress, self._clock.monotonic() - started
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


def _change(
    draft: Draft, writer: ContentWriter, store: ObjectStore, change: Callable[[], None]
) -> None:
    """Make the change, and then the catalogs that the rules of the result want."""
    rules = draft.find(DIRTAB_PATH)
    change()
    writer.finish()
    are_other = draft.find(DIRTAB_PATH) != rules
    if are_other or draft.came:
        dirtab = read_dirtab(draft, store)
        mark_catalogs(draft, writer, dirtab, [b""] if are_other else draft.came)


def _name_of(recipe: Recipe, settings: Settings) -> str:
    """What files are remembered for: another one would make other entries of them, a deflater would not."""
    kinds = "external" * recipe.is_external + "whole" * recipe.has_whole
    kinds += "" if settings.xattrs else "bare"
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
    if settings.ttl_s is not None:
        draft.set_property("TTL", str(settings.ttl_s))
    if settings.volatile is not None:
        draft.set_property("volatile", "1" if settings.volatile else None)
