"""Where a new revision goes: the port between making a root catalog and making it the served one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from cernvm.core.errors import ExistsError
from cernvm.fs.format.history import Tag, automatic_name, check_tag_name, with_revision, without_old
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import Written, read_manifest, write_revision
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.reading import read_tags


@dataclass(frozen=True, slots=True)
class Served:
    """The revision that is served in the end, and the tags that it got. Units: `stored_bytes` of new objects."""

    manifest: Manifest
    tags: tuple[str, ...]
    stored_bytes: int


class RevisionSink(Protocol):
    """Takes root catalogs; used by one publication, which holds the store, in this order."""

    def begin(self, tag: str) -> Manifest:
        """The revision that is to be changed; `ExistsError`, `InvalidInputError` for a `tag` that it may not get."""

    def finish(
        self, root: Written, *, base: Manifest, tag: str, description: str, now: datetime
    ) -> Served:
        """Make `root`, which was made of `base`, the served revision; where it is that one's, set the tag only."""


class StoreSink:
    """Signs the revision with the repository's own keys and serves it from its own store."""

    def __init__(self, repository: Repository, store: ObjectStore) -> None:
        self._repository = repository
        self._store = store
        self._tags: tuple[Tag, ...] = ()

    def begin(self, tag: str) -> Manifest:
        manifest = read_manifest(self._repository, self._store)
        self._tags = read_tags(manifest, self._store)
        if tag:
            check_tag_name(tag)
            if any(known.name == tag for known in self._tags):
                raise ExistsError("tag", tag, advice="choose another name")
        return manifest

    def finish(
        self, root: Written, *, base: Manifest, tag: str, description: str, now: datetime
    ) -> Served:
        new = Tag(tag, root.digest, base.revision, now, description, root.size_bytes)
        if root.digest == base.root_catalog:
            return self._serve(base, (*self._tags, new), (tag,), base, now)
        manifest = replace(
            base,
            root_catalog=root.digest,
            root_catalog_size_bytes=root.size_bytes,
            revision=base.revision + 1,
            published_at=now,
        )
        automatic = [automatic_name(now)] if self._repository.settings.automatic_tag else []
        named = tuple([tag] if tag else automatic)
        new = replace(new, revision=manifest.revision)
        days = self._repository.settings.auto_tag_days
        kept = without_old(self._tags, now=now, days=days) if days else self._tags
        return self._serve(manifest, with_revision(kept, new, named=named), named, base, now)

    def _serve(
        self,
        manifest: Manifest,
        tags: tuple[Tag, ...],
        named: tuple[str, ...],
        base: Manifest,
        now: datetime,
    ) -> Served:
        signed, stored_bytes = write_revision(
            self._repository, self._store, manifest, tags=tags, previous=base, now=now
        )
        return Served(signed, named, stored_bytes)
