"""Where a new revision goes: the port between making a root catalog and making it the served one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from cernvm.core.digest import Digest
from cernvm.core.errors import ExistsError
from cernvm.fs.format.history import (
    Branch,
    History,
    Tag,
    automatic_name,
    check_tag_name,
    with_revision,
    without_old,
)
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import Written, read_manifest, write_revision
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.reading import read_history, read_tags


@dataclass(frozen=True, slots=True)
class Served:
    """The revision that is served in the end, and the tags that it got. Units: `stored_bytes` of new objects."""

    manifest: Manifest
    tags: tuple[str, ...]
    stored_bytes: int


class RevisionSink(Protocol):
    """Takes root catalogs; used by one publication, which holds the store, in this order."""

    def begin(self, tag: str) -> Manifest:
        """The revision that is to be changed; `ExistsError`, `InvalidInputError` for a `tag` that it may not get.

        Shape: a tag that names this revision passes, so that the same publication may be repeated.
        """

    def finish(
        self, root: Written, *, base: Manifest, tag: str, description: str, now: datetime
    ) -> Served:
        """Make `root`, which was made of `base`, the served revision; where it is that one's, set the tag only.

        Errors: `ExistsError` for the tag of `base` where `root` is another.
        """


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
        if not names(tag, manifest.root_catalog, self._tags):
            check_new_tag(tag, self._tags)
        return manifest

    def finish(
        self, root: Written, *, base: Manifest, tag: str, description: str, now: datetime
    ) -> Served:
        new = Tag(tag, root.digest, base.revision, now, description, root.size_bytes)
        if names(tag, root.digest, self._tags):
            return Served(base, (tag,), 0)
        check_new_tag(tag, self._tags)
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


class BranchSink:
    """Puts a revision beside the trunk: what is served stays, and a tag of the branch names the new one.

    Shape: a branch goes on where its newest tag is; a new one begins at the last revision.
    """

    def __init__(self, repository: Repository, store: ObjectStore, branch: str) -> None:
        self._repository = repository
        self._store = store
        self._branch = check_tag_name(branch)
        self._trunk: Manifest | None = None
        self._history = History()

    def begin(self, tag: str) -> Manifest:
        self._trunk = trunk = read_manifest(self._repository, self._store)
        self._history = read_history(trunk, self._store)
        check_new_tag(tag, self._history.tags)
        head = max(
            (one for one in self._history.tags if one.branch == self._branch),
            key=lambda one: (one.revision, one.tagged_at),
            default=None,
        )
        if head is None:
            return trunk
        return replace(
            trunk,
            root_catalog=head.root_catalog,
            root_catalog_size_bytes=head.size_bytes,
            revision=head.revision,
        )

    def finish(
        self, root: Written, *, base: Manifest, tag: str, description: str, now: datetime
    ) -> Served:
        assert self._trunk is not None
        revision = base.revision + (root.digest != base.root_catalog)
        # of the same second may be a tag of the trunk
        name = tag or f"{automatic_name(now)}-{self._branch}"
        check_new_tag(name, self._history.tags)
        new = Tag(name, root.digest, revision, now, description, root.size_bytes, self._branch)
        is_known = any(one.name == self._branch for one in self._history.branches)
        signed, stored_bytes = write_revision(
            self._repository,
            self._store,
            self._trunk,
            tags=(*self._history.tags, new),
            previous=self._trunk,
            now=now,
            branches=() if is_known else (Branch(self._branch, "", self._trunk.revision),),
        )
        return Served(
            replace(signed, root_catalog=root.digest, revision=revision), (name,), stored_bytes
        )


def names(tag: str, root_catalog: Digest, tags: Iterable[Tag]) -> bool:
    """Whether a revision has this tag already."""
    return any(known.name == tag and known.root_catalog == root_catalog for known in tags)


def check_new_tag(name: str, tags: Iterable[Tag]) -> None:
    """Refuse a name that no tag may have, or that one has; an empty one is that of no tag."""
    if name:
        check_tag_name(name)
        if any(known.name == name for known in tags):
            raise ExistsError("tag", name, advice="choose another name")
