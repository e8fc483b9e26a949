"""The changes of a transaction as the next revision.

They are laid over what is the last revision by then. If somebody else published meanwhile, from another machine, what
both changed is a conflict and nothing is published; all else goes together.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from enum import Enum

from cernvm.core.clock import Clock
from cernvm.core.digest import Digest
from cernvm.core.errors import ConflictError
from cernvm.core.log import fields
from cernvm.fs.edit.comparing import Difference, compare, is_alike
from cernvm.fs.edit.opening import Bench, held, hide
from cernvm.fs.format.entry import NO_XATTRS, Entry, EntryFlag
from cernvm.fs.gateway.joining import open_publication
from cernvm.fs.publish.content import Content, ContentWriter, Progress
from cernvm.fs.publish.draft import Draft
from cernvm.fs.publish.entries import NO_CONTENT, Owner, entry_of
from cernvm.fs.publish.publishing import Options, Published, publish_changes, recipe_of
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.source import Found
from cernvm.fs.publish.transaction import Transaction, forget_transaction, read_transaction
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item
from cernvm.fs.survey.difference import Change, diff
from cernvm.fs.survey.opened import Revision

_MOST_SHOWN = 5

log = logging.getLogger(__name__)


def differences(bench: Bench) -> Iterator[Difference]:
    """What the open transaction has changed, parents first. Errors: those of `compare`."""
    transaction = read_transaction(bench.repository)
    with _differences(bench, transaction, transaction.root_catalog) as found:
        yield from found


def publish_edits(
    bench: Bench,
    *,
    options: Options | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Published:
    """Publish the open transaction and close it; it stays open, with all its changes, if that fails.

    Errors: `NotFoundError` where none is open, `ConflictError`, those of `publish_changes`; `UnavailableError` and
    `TransactionOpenError` while it is in use.
    """
    with held(bench.place):
        transaction = hide(bench, read_transaction(bench.repository))
        chosen = replace(options or Options(), within_transaction=True)

        def change(draft: Draft, writer: ContentWriter) -> None:
            # only now, while the store is held, nobody else makes another one
            last = read_manifest(bench.repository, bench.store).root_catalog
            with _differences(bench, transaction, transaction.root_catalog) as found:
                wanted: Iterable[Difference] = found
                if last != transaction.parent:
                    wanted = _merged(bench, transaction, found, last)
                _copy_template(bench, transaction, draft)
                _apply(wanted, draft, writer, transaction, chosen.owner)

        repository, store, sink = open_publication(bench.repository, transaction.at)
        published = publish_changes(
            repository,
            store,
            change,
            options=chosen,
            sink=sink,
            progress=progress,
            clock=clock,
        )
        bench.place.clear()
        forget_transaction(bench.repository)
    log.info("transaction.published", extra=fields(name=published.name, is_new=published.is_new))
    return published


@contextmanager
def _differences(
    bench: Bench, transaction: Transaction, root: Digest
) -> Iterator[Iterator[Difference]]:
    with closing(Revision(bench.store, root)) as base:
        yield compare(
            bench.place.upper,
            os.fsencode(transaction.at),
            base,
            bench.store,
            is_claimed=transaction.is_claimed,
        )


def _merged(
    bench: Bench, transaction: Transaction, found: Iterable[Difference], last: Digest
) -> Iterator[Difference]:
    """The differences, if nobody else changed the same paths. Errors: `ConflictError` naming the first of them."""
    at = os.fsencode(transaction.at)
    theirs = {
        change.path: change
        for change in diff(transaction.parent, last, bench.store, at, whole=False)
    }
    conflicts: list[bytes] = []
    kept: list[Difference] = []
    ours: set[bytes] = set()
    with closing(Revision(bench.store, last)) as now:
        for one in found:
            ours.add(one.path)
            if not _touches(one, theirs):
                kept.append(one)
                continue
            outcome = _against(one, now.find(one.path), bench.store, transaction.is_claimed)
            if outcome is _Outcome.OURS:
                kept.append(one)
            elif outcome is _Outcome.CONFLICT:
                conflicts.append(one.path)
        if (top := _template_top(bench, transaction)) is not None:
            conflicts += _in_the_way_of(top, bench, transaction, now, last, ours)
    if conflicts:
        shown = ", ".join(os.fsdecode(path) for path in conflicts[:_MOST_SHOWN])
        raise ConflictError(
            f"{len(conflicts)} paths were published by somebody else meanwhile: {shown}",
            advice=f"look at them, then: cvm repo edit {transaction.name} --resume, or abort",
        )
    return iter(kept)


def _template_top(bench: Bench, transaction: Transaction) -> bytes | None:
    """What a template put beside what was there: the topmost path that is new."""
    if not transaction.template_at:
        return None
    parts = os.fsencode(transaction.template_at).split(b"/")
    ways = [b"/".join(parts[:end]) for end in range(2, len(parts) + 1)]
    with closing(Revision(bench.store, transaction.parent)) as before:
        return next(way for way in ways if before.find(way) is None)


def _in_the_way_of(
    top: bytes,
    bench: Bench,
    transaction: Transaction,
    now: Revision,
    last: Digest,
    ours: set[bytes],
) -> Iterator[bytes]:
    """What somebody else did where a template is to stand; an attempt that died may have put it there itself."""
    folder = now.find(top.rpartition(b"/")[0])
    if folder is None or not folder.entry.is_directory:
        yield top
    elif now.find(top) is not None:
        others = diff(transaction.root_catalog, last, bench.store, top, whole=False)
        yield from (change.path for change in others if change.path not in ours)


def _copy_template(bench: Bench, transaction: Transaction, draft: Draft) -> None:
    top = _template_top(bench, transaction)
    if top is not None and draft.find(top) is None:
        draft.copy(top, top, transaction.root_catalog)


class _Outcome(Enum):
    """What becomes of a path that two have changed."""

    SAME = "same"  # both did the same
    OURS = "ours"
    CONFLICT = "conflict"


def _against(
    one: Difference, current: Item | None, store: ObjectStore, is_claimed: bool
) -> _Outcome:
    if one.found is None:
        return _Outcome.SAME if current is None else _Outcome.CONFLICT
    if current is not None and is_alike(current, one.found, store, is_claimed=is_claimed):
        return _Outcome.SAME
    is_folder = current is not None and current.entry.is_directory and one.found.is_directory
    # of two who add to a folder, the later one says how it looks
    return _Outcome.OURS if is_folder else _Outcome.CONFLICT


def _touches(one: Difference, theirs: Mapping[bytes, Change]) -> bool:
    """Whether somebody else changed the path, what is below one that goes, or took away a folder above it."""
    if one.path in theirs or any(_is_gone(theirs.get(folder)) for folder in _above(one.path)):
        return True
    goes = one.before is not None and one.before.entry.is_directory
    if not goes or (one.found is not None and one.found.is_directory):
        return False
    return any(path.startswith(one.path + b"/") for path in theirs)


def _above(path: bytes) -> Iterator[bytes]:
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def _is_gone(change: Change | None) -> bool:
    return change is not None and (change.after is None or not change.after.entry.is_directory)


@dataclass(slots=True)
class _Link:
    """One name of a file that has several in one folder, and what the file turned out to hold."""

    item: Item
    found: Found


def _apply(
    wanted: Iterable[Difference],
    draft: Draft,
    writer: ContentWriter,
    transaction: Transaction,
    owner: Owner | None,
) -> None:
    links: dict[tuple[int, int, bytes], list[_Link]] = {}
    for one in wanted:
        if one.found is None:
            draft.remove(one.path)
            continue
        item = _item(one, draft, transaction, owner)
        if one.found.is_file and one.found.status.st_nlink > 1:
            status = one.found.status
            folder = one.path.rpartition(b"/")[0]
            links.setdefault((status.st_dev, status.st_ino, folder), []).append(
                _Link(item, one.found)
            )
        elif one.found.is_file and not one.keeps_content:
            writer.add(one.found, _filler(item, draft.put))
        else:
            draft.put(item)
    for group in links.values():
        _put_linked(group, draft, writer)


def _item(one: Difference, draft: Draft, transaction: Transaction, owner: Owner | None) -> Item:
    """What is to stand at the path, but for content that is not stored yet."""
    assert one.found is not None
    before = one.before.entry if one.before is not None else None
    if owner is None and before is not None and transaction.is_claimed:
        owner = Owner(before.uid, before.gid)
    entry = _entry(one.found, one.path.rpartition(b"/")[2], owner, draft)
    is_linked = one.found.is_file and one.found.status.st_nlink > 1
    if before is None or one.before is None or entry.is_directory or is_linked:
        return Item(one.path, entry)
    if not one.keeps_content:
        return Item(one.path, entry)
    kept = replace(
        before,
        mode=entry.mode,
        mtime_s=entry.mtime_s,
        mtime_ns=entry.mtime_ns,
        uid=entry.uid,
        gid=entry.gid,
        xattrs=entry.xattrs,
    )
    return Item(one.path, kept, one.before.chunks)


def _entry(found: Found, name: bytes, owner: Owner | None, draft: Draft) -> Entry:
    """A path's entry, but for its content."""
    repository = draft.repository
    return entry_of(
        found,
        name=name,
        content=NO_CONTENT,
        xattrs=found.xattrs if repository.settings.xattrs else NO_XATTRS,
        owner=owner,
        settings=repository.settings,
        compression=recipe_of(repository).compression,
    )


def _filler(item: Item, put: Callable[[Item], None]) -> Callable[[os.stat_result, Content], None]:
    """What completes an item once its content is stored."""
    return lambda _status, content: put(_filled(item, content))


def _filled(item: Item, content: Content) -> Item:
    flags = item.entry.flags | (EntryFlag.CHUNKED if content.chunks else 0)
    entry = replace(item.entry, size=content.size, digest=content.digest, flags=flags)
    return Item(item.path, entry, content.chunks)


def _put_linked(group: list[_Link], draft: Draft, writer: ContentWriter) -> None:
    """Several names for one file: stored once; links to it from elsewhere are files of their own."""
    items = [link.item for link in group]

    def put(_status: os.stat_result, content: Content) -> None:
        filled = [_filled(item, content) for item in items]
        if len(filled) == 1:
            draft.put(filled[0])
        else:
            draft.put_linked(filled)

    writer.add(group[0].found, put)
