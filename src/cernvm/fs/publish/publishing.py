"""Publishing: a tree replaces what is at a path, in a new signed revision.

Flow: hold the store → `scan` the tree (content becomes objects) → `split` into catalogs → pack them, deepest first,
reusing those whose rows did not change, and small files once more into packs → profiles → tags, reflog, whitelist and,
last, the manifest. Until that last step the previous revision is served whole; whatever an interrupted attempt left
behind, the next one uses or ignores.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.digest import Digest
from cernvm.core.errors import ExistsError, InvalidInputError
from cernvm.core.log import fields
from cernvm.fs.format.chunker import ChunkSizes
from cernvm.fs.format.history import Tag, automatic_name, check_tag_name, with_revision
from cernvm.fs.publish.building import CatalogBuilder
from cernvm.fs.publish.content import ContentWriter, Progress, Recipe, open_writer
from cernvm.fs.publish.index import Index, open_index
from cernvm.fs.publish.packing import Packer
from cernvm.fs.publish.plan import CatalogLimits
from cernvm.fs.publish.profiles import Recording, WrittenProfile, read_profiles, recording_of
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import read_manifest, write_revision
from cernvm.fs.publish.scan import Owner, scan
from cernvm.fs.publish.sink import RevisionSink
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item
from cernvm.fs.survey.reading import read_tags

if TYPE_CHECKING:
    from cernvm.fs.publish.draft import Draft  # type: ignore[import-untyped]

log = logging.getLogger(__name__)


# What a publication does to the next revision's tree. Content that is given to the writer may be put into the draft by
# its `done`, which runs before `publish_changes` looks at the draft again, or at the writer's `finish`.
Change = Callable[["Draft", ContentWriter], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How a revision is published.

    Shape: `at` and `owner` are about trees and archives; `base` is the root catalog that is changed, the last
    revision's if None (a rollback names an older one); an empty `tag` is an automatic one.
    Units: `wait_s` is how long another publisher may still hold the store.
    """

    at: str = "/"
    tag: str = ""
    description: str = ""
    owner: Owner | None = None
    base: Digest | None = None
    sizes: ChunkSizes = field(default_factory=ChunkSizes)
    limits: CatalogLimits = field(default_factory=CatalogLimits)
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    wait_s: float = 0.0


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
    raise NotImplementedError


def publish_tree(
    repository: Repository,
    store: ObjectStore,
    tree: Path,
    *,
    options: Options | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Published:
    """Publish `tree`; returns once the new revision is served and durable.

    Errors: `TransactionOpenError` while another publisher is at work, `ExistsError` for a tag that exists,
    `InvalidInputError`, `DeniedError` and `NotFoundError` about the tree, `SpaceError`; the last revision then stands.
    """
    chosen, done = options or Options(), progress or Progress()
    at = parse_path(chosen.at)

    def scan_tree(index: Index) -> list[Item]:
        return _scan(repository, store, tree, at, chosen, index, done)

    return _publish(repository, store, scan_tree, at=at, options=chosen, progress=done, clock=clock)


def publish_profiles(
    repository: Repository,
    store: ObjectStore,
    change: Callable[[Sequence[Recording]], Sequence[Recording]],
    *,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Published:
    """Publish a revision with the same tree and other profiles: `change` makes them of those that there are.

    Errors: those of `change`, before anything is written; otherwise as `publish_tree`.
    """
    return _publish(
        repository,
        store,
        None,
        options=Options(),
        progress=progress or Progress(),
        clock=clock,
        change=change,
    )


def _publish(
    repository: Repository,
    store: ObjectStore,
    scan_tree: Callable[[Index], list[Item]] | None,
    *,
    at: bytes = b"",
    options: Options,
    progress: Progress,
    clock: Clock | None,
    change: Callable[[Sequence[Recording]], Sequence[Recording]] | None = None,
) -> Published:
    used = clock or SystemClock()
    started = used.monotonic()
    with store.exclusive(), open_index(repository.index) as index:
        previous = read_manifest(repository, store)
        tags = read_tags(previous, store)
        _check_tag(options.tag, tags)
        recordings = [recording_of(one) for one in read_profiles(previous.root_catalog, store)]
        if change is not None:
            recordings = list(change(recordings))
        items = scan_tree(index) if scan_tree is not None else []
        now = used.now()
        builder = CatalogBuilder(
            repository,
            store,
            index,
            previous,
            now,
            progress,
            Packer(repository, store, index, progress, is_on=repository.has_packs),
            recordings,
        )
        root = builder.build(items, at=at, limits=options.limits) if items else builder.build_same()
        manifest = replace(
            previous,
            root_catalog=root.digest,
            root_catalog_size_bytes=root.size_bytes,
            revision=previous.revision + 1,
            published_at=now,
        )
        new = Tag("", root.digest, manifest.revision, now, options.description, root.size_bytes)
        named = (options.tag or automatic_name(now),)
        signed, stored_bytes = write_revision(
            repository,
            store,
            manifest,
            tags=with_revision(tags, new, named=named),
            previous=previous,
            now=now,
        )
        index.save()
    published = Published(
        name=repository.name,
        revision=signed.revision,
        root_catalog=signed.root_catalog,
        tags=named,
        files=progress.files,
        read_bytes=progress.read_bytes,
        stored_objects=progress.stored_objects,
        stored_bytes=progress.stored_bytes + stored_bytes,
        catalogs=builder.written,
        took_s=used.monotonic() - started,
        profiles=tuple(builder.profiles),
    )
    log.info(
        "revision.published",
        extra=fields(name=published.name, revision=published.revision, took_s=published.took_s),
    )
    return published


def parse_path(text: str) -> bytes:
    """The repository path that a person means by `/`, `/a/b` or `a/b/`; `InvalidInputError` for dots."""
    path = os.fsencode(text).strip(b"/")
    parts = path.split(b"/") if path else []
    if any(part in (b"", b".", b"..") or len(part) > 255 or b"\0" in part for part in parts):
        raise InvalidInputError(f"{text!r} is no path of a repository")
    return b"".join(b"/" + part for part in parts)


def _check_tag(name: str, tags: Sequence[Tag]) -> None:
    if name:
        check_tag_name(name)
        if any(tag.name == name for tag in tags):
            raise ExistsError("tag", name, advice="choose another name")


def _scan(
    repository: Repository,
    store: ObjectStore,
    tree: Path,
    at: bytes,
    options: Options,
    index: Index,
    progress: Progress,
) -> list[Item]:
    recipe = Recipe(repository.algorithm, repository.compression, sizes=options.sizes)
    with open_writer(store, recipe, progress=progress, workers=options.threads) as writer:
        return scan(
            tree,
            at=at,
            store=store,
            writer=writer,
            index=index,
            compression=repository.compression,
            owner=options.owner,
            progress=progress,
        )
