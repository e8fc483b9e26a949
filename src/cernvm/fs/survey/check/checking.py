"""The check of a whole store, or of some revisions in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cernvm.core.digest import Digest
from cernvm.core.errors import NotFoundError
from cernvm.fs.format.history import Tag
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.objects import MANIFEST_PATH, ObjectKind, object_path
from cernvm.fs.format.reflog import ReferenceKind
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.check.catalog import CONTENT_BYTES
from cernvm.fs.survey.check.finding import Finding
from cernvm.fs.survey.check.locating import locate
from cernvm.fs.survey.check.objects import find_damaged, find_missing, find_unneeded
from cernvm.fs.survey.check.roots import Roots, check_roots
from cernvm.fs.survey.check.tree import TreeCheck
from cernvm.fs.survey.marks import KEY_BYTES, Marks, key_path, object_key

_MOST_LOCATED = 10_000


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What is checked beside structure and existence of the last revision.

    Shape: `tags` are further revisions by name, all with `all_tags`; `everything` follows the whole reflog, and counts
    what nothing refers to; `with_data` reads every object; `at` leaves out what lies neither on the way to a path nor
    below it.
    """

    with_data: bool = False
    at: bytes = b""
    tags: tuple[str, ...] = ()
    all_tags: bool = False
    everything: bool = False


@dataclass(slots=True)
class Summary:
    """What was checked, complete once the check's findings are all taken."""

    revisions: int = 0
    catalogs: int = 0
    entries: int = 0
    objects: int = 0
    problems: int = 0
    notes: int = 0
    unneeded_objects: int = 0
    unneeded_bytes: int = 0


def check(
    store: ObjectStore,
    *,
    name: str,
    master_keys: Sequence[bytes],
    now: datetime,
    options: CheckOptions,
    summary: Summary,
    on_step: Callable[[str, int, int], None] | None = None,
) -> Generator[Finding, None, None]:
    """Everything that is wrong with a repository's store, told one by one.

    Errors: `NotFoundError` for a tag that there is not; those of the store where it fails.
    """
    for finding in _check(store, name, master_keys, now, options, summary, on_step):
        if finding.is_note:
            summary.notes += 1
        else:
            summary.problems += 1
        yield finding


def _check(
    store: ObjectStore,
    name: str,
    master_keys: Sequence[bytes],
    now: datetime,
    options: CheckOptions,
    summary: Summary,
    on_step: Callable[[str, int, int], None] | None,
) -> Iterator[Finding]:
    told = on_step or (lambda _what, _done, _all: None)
    roots = Roots()
    yield from check_roots(store, name=name, master_keys=master_keys, now=now, found=roots)
    if roots.manifest is None:
        return
    with Marks(record_bytes=KEY_BYTES + CONTENT_BYTES) as contents, Marks() as others:

        def take(records: Sequence[bytes]) -> None:
            contents.add(one for one in records if len(one) > KEY_BYTES)
            others.add(one for one in records if len(one) == KEY_BYTES)

        tree = TreeCheck(store, take, told)
        tags = _chosen(roots, options)
        wanted = list(dict.fromkeys([roots.manifest.root_catalog, *(t.root_catalog for t in tags)]))
        for root in wanted:
            yield from tree.check(root, at=options.at)
        yield from _check_sizes(tree, roots.manifest, tags)
        summary.revisions = len(wanted)
        if options.everything:
            yield from _check_reflog(store, tree, roots, wanted, summary)
        summary.catalogs, summary.entries = tree.catalogs, tree.entries
        for marks in (contents, others):
            summary.objects += sum(len(marks.drawer(number)) for number in range(256))
        bad = dict(find_missing(store, (contents, others), told))
        if options.with_data:
            bad |= dict(find_damaged(store, contents, told))
            bad |= dict(find_damaged(store, others, told))
        yield from _named(store, wanted, bad)
        if options.everything:
            yield from _count_unneeded(store, contents, others, roots, summary)


def _chosen(roots: Roots, options: CheckOptions) -> list[Tag]:
    tags = {tag.name: tag for tag in roots.history.tags}
    for one in options.tags:
        if one not in tags:
            raise NotFoundError("tag", one, advice="see the tags with cvm repo tag NAME list")
    return list(tags.values()) if options.all_tags else [tags[one] for one in options.tags]


def _check_sizes(tree: TreeCheck, manifest: Manifest, tags: Sequence[Tag]) -> Iterator[Finding]:
    """What manifest and tags say of root catalogs, against what these are."""
    known = tree.size_of(manifest.root_catalog)
    if known is not None:
        size_bytes, revision = known
        if manifest.root_catalog_size_bytes not in (0, size_bytes):
            text = (
                f"the root catalog has {size_bytes} bytes, not {manifest.root_catalog_size_bytes}"
            )
            yield Finding(text, place=MANIFEST_PATH)
        if manifest.revision != revision:
            text = f"the root catalog is of revision {revision}, not {manifest.revision}"
            yield Finding(text, place=MANIFEST_PATH)
    for tag in tags:
        known = tree.size_of(tag.root_catalog)
        if known is not None and known[1] != tag.revision:
            text = f"tag {tag.name} is of revision {tag.revision}, its root catalog of {known[1]}"
            yield Finding(text, is_note=True)


def _check_reflog(
    store: ObjectStore, tree: TreeCheck, roots: Roots, wanted: list[Digest], summary: Summary
) -> Iterator[Finding]:
    """The revisions that only the reflog lists, which an interrupted collection may have deleted in part."""
    for reference in roots.references:
        place = object_path(reference.digest, reference.kind.object_kind)
        if not store.has(place):
            yield Finding("the reflog lists what is not there", place=place, is_note=True)
        elif reference.kind is ReferenceKind.ROOT_CATALOG and reference.digest not in wanted:
            yield from tree.check(reference.digest)
            wanted.append(reference.digest)
            summary.revisions += 1


def _named(store: ObjectStore, roots: Sequence[Digest], bad: dict[bytes, str]) -> Iterator[Finding]:
    """Objects that are missing or damaged, with a path that needs each of them."""
    if not bad:
        return
    some = dict(list(bad.items())[:_MOST_LOCATED])
    paths: dict[bytes, bytes] = {}
    for key, path in locate(store, roots, some):
        paths.setdefault(key, path)
    for key, what in bad.items():
        yield Finding(what, paths.get(key), key_path(key))


def _count_unneeded(
    store: ObjectStore, contents: Marks, others: Marks, roots: Roots, summary: Summary
) -> Iterator[Finding]:
    assert roots.manifest is not None
    keys = [object_key(one.digest, one.kind.object_kind) for one in roots.references]
    named = (
        (roots.manifest.certificate, ObjectKind.CERTIFICATE),
        (roots.manifest.history, ObjectKind.HISTORY),
        (roots.manifest.metainfo, ObjectKind.METAINFO),
    )
    keys += [object_key(digest, kind) for digest, kind in named if digest is not None]
    count, size_bytes = find_unneeded(store, (contents, others), keys)
    summary.unneeded_objects, summary.unneeded_bytes = count, size_bytes
    if count:
        text = (
            f"nothing refers to {count} objects with {size_bytes} bytes; cvm repo gc deletes them"
        )
        yield Finding(text, is_note=True)
