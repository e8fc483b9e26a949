"""Names for revisions: added, moved and removed without a new revision; only tags and manifest are signed anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.digest import Digest
from cernvm.core.errors import ExistsError, InvalidInputError, NotFoundError
from cernvm.fs.format.history import TRUNK, TRUNK_PREVIOUS, Tag, check_tag_name
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import read_manifest, write_revision
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.reading import read_object, read_tags
from cernvm.fs.survey.references import read_properties
from cernvm.fs.survey.wholeness import check_whole

TagChange = Callable[[tuple[Tag, ...], Manifest, datetime], Sequence[Tag]]
_KEPT = (TRUNK, TRUNK_PREVIOUS)


def change_tags(
    repository: Repository,
    store: ObjectStore,
    change: TagChange,
    *,
    wait_s: float = 0.0,
    clock: Clock | None = None,
) -> tuple[Tag, ...]:
    """Serve the tags that `change` makes of those that there are; gives them.

    Errors: `TransactionOpenError` where another publisher holds the store for `wait_s`; those of `change`, and then
    nothing was changed.
    """
    with store.exclusive(wait_s):
        manifest = read_manifest(repository, store)
        tags = read_tags(manifest, store)
        now = (clock or SystemClock()).now()
        changed = tuple(change(tags, manifest, now))
        if changed != tags:
            served = replace(manifest, published_at=now)
            write_revision(repository, store, served, tags=changed, previous=manifest, now=now)
        return changed


def adding(
    store: ObjectStore, name: str, *, root: Digest | None = None, description: str = ""
) -> TagChange:
    """The change that names a revision, the last one if `root` is None. Errors: `ExistsError`, `NotFoundError`."""

    def change(tags: tuple[Tag, ...], manifest: Manifest, now: datetime) -> Sequence[Tag]:
        check_tag_name(name)
        if any(tag.name == name for tag in tags):
            raise ExistsError("tag", name, advice="move it: cvm repo tag NAME move TAG")
        new = _tag(store, name, root or manifest.root_catalog, tags, now)
        return (*tags, replace(new, description=description))

    return change


def moving(
    store: ObjectStore, name: str, *, root: Digest | None = None, description: str | None = None
) -> TagChange:
    """The change that has a tag name another revision, the last one if `root` is None. Errors: `NotFoundError`."""

    def change(tags: tuple[Tag, ...], manifest: Manifest, now: datetime) -> Sequence[Tag]:
        check_tag_name(name)
        old = find_tag(tags, name)
        new = _tag(store, name, root or manifest.root_catalog, tags, now)
        kept = old.description if description is None else description
        new = replace(new, description=kept, branch=old.branch)
        return [new if tag.name == name else tag for tag in tags]

    return change


def removing(names: Sequence[str]) -> TagChange:
    """The change that forgets names; their revisions stay until they are collected. Errors: `NotFoundError`."""

    def change(tags: tuple[Tag, ...], _manifest: Manifest, _now: datetime) -> Sequence[Tag]:
        for name in names:
            if name in _KEPT:
                raise InvalidInputError(f"the tag {name!r} is kept by the publisher itself")
            find_tag(tags, name)
        return [tag for tag in tags if tag.name not in names]

    return change


def dropping_later(revision: int, *, but: Sequence[str] = ()) -> TagChange:
    """The change that forgets the trunk's names of revisions after one, but for some, and those a publisher keeps."""
    kept = {*_KEPT, *but}

    def change(tags: tuple[Tag, ...], _manifest: Manifest, _now: datetime) -> Sequence[Tag]:
        return [t for t in tags if t.revision <= revision or t.branch or t.name in kept]

    return change


def find_tag(tags: Sequence[Tag], name: str) -> Tag:
    """The tag of that name. Errors: `NotFoundError`."""
    for tag in tags:
        if tag.name == name:
            return tag
    raise NotFoundError("tag", name, advice="list the tags: cvm repo tag NAME list")


def _tag(store: ObjectStore, name: str, root: Digest, tags: Sequence[Tag], now: datetime) -> Tag:
    """A tag for a revision that is in the store; `NotFoundError` where it is not, or not whole any more."""
    for tag in tags:
        if tag.root_catalog == root:
            return replace(tag, name=name, tagged_at=now, description="", branch="")
    check_whole(store, root)
    size_bytes = len(read_object(store, root, ObjectKind.CATALOG))
    return Tag(name, root, read_properties(store, root).revision, now, "", size_bytes)
