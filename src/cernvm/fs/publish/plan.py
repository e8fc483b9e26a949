"""Which directories get catalogs of their own, and what each catalog holds; pure.

A directory with the marker `.cvmfscatalog` always does. Where a catalog would still hold too many entries, the heaviest
directories below it are split off by themselves, and carry `.cvmfsautocatalog` to say so.
Source: docs/formats/repository.md, "Nested catalogs".
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from cernvm.fs.format.catalog import AUTOCATALOG_MARKER, CATALOG_MARKER
from cernvm.fs.format.entry import Entry, EntryFlag
from cernvm.fs.publish.draft.weighing import CatalogLimits as CatalogLimits  # noqa: PLC0414  # until publishing has it from there
from cernvm.fs.survey.database import Item


def split(
    items: Sequence[Item],
    *,
    top: bytes,
    limits: CatalogLimits,
    marker: Entry,
    around: int = 0,
) -> dict[bytes, list[Item]]:
    """The items of each catalog by its path, the catalog's root first.

    Shape: `items` are a directory and all below it, parents before children; `top` is the path of the catalog that
    takes what no nested one takes, `around` the number of entries that it holds besides, and `marker` an empty file
    as it is made where a directory is split off.
    """
    marked = {
        item.path.rpartition(b"/")[0]
        for item in items
        if item.entry.name == CATALOG_MARKER and stat.S_ISREG(item.entry.mode)
    } - {top}
    automatic = _heavy(items, top=top, marked=marked, limits=limits, around=around)
    marks = _markers(items, automatic, marker)
    nested = marked | automatic
    catalogs: dict[bytes, list[Item]] = {top: []}
    owner: dict[bytes, bytes] = {}
    for item in items:
        own = owner.get(item.path.rpartition(b"/")[0], top) if item.path != top else top
        if item.path in nested:
            owner[item.path] = item.path
            catalogs[own].append(_flagged(item, EntryFlag.NESTED_MOUNTPOINT))
            root = _flagged(item, EntryFlag.NESTED_ROOT)
            catalogs[item.path] = [root, *marks.get(item.path, ())]
        else:
            catalogs[own].append(item)
            if item.entry.is_directory:
                owner[item.path] = own
    return catalogs


def _heavy(
    items: Sequence[Item],
    *,
    top: bytes,
    marked: set[bytes],
    limits: CatalogLimits,
    around: int,
) -> set[bytes]:
    """The directories to split off so that no catalog holds more than the limit, deepest decided first."""
    chosen: set[bytes] = set()
    inside: Counter[bytes] = Counter()  # entries below a directory that its catalog would hold
    below: dict[bytes, list[bytes]] = {}
    inside[top] = around
    for item in reversed(items):
        path = item.path
        if item.entry.is_directory:
            _lighten(path, inside, below.pop(path, []), chosen, limits)
        if path == top:
            continue
        parent = path.rpartition(b"/")[0]
        is_apart = not item.entry.is_directory or path in marked
        inside[parent] += 1 + (0 if is_apart else inside[path])
        if not is_apart:
            below.setdefault(parent, []).append(path)
    if items and items[0].path != top and inside[items[0].path] + around > limits.most_entries:
        first = items[0].path
        if first not in marked and inside[first] >= limits.fewest_entries:
            chosen.add(first)
    return chosen


def _lighten(
    path: bytes,
    inside: Counter[bytes],
    children: Iterable[bytes],
    chosen: set[bytes],
    limits: CatalogLimits,
) -> None:
    for child in sorted(children, key=lambda child: (-inside[child], child)):
        if inside[path] <= limits.most_entries or inside[child] < limits.fewest_entries:
            return
        chosen.add(child)
        inside[path] -= inside[child]


def _flagged(item: Item, flag: EntryFlag) -> Item:
    return replace(item, entry=replace(item.entry, flags=item.entry.flags | flag))


def _markers(
    items: Sequence[Item], automatic: set[bytes], marker: Entry
) -> dict[bytes, list[Item]]:
    """The files that mark the directories which are split off by themselves."""
    if not automatic:
        return {}
    taken = {item.path for item in items}
    marks: dict[bytes, list[Item]] = {}
    for item in items:
        if item.path in automatic:
            paths = [item.path + b"/" + name for name in (AUTOCATALOG_MARKER, CATALOG_MARKER)]
            made = replace(marker, mtime_s=item.entry.mtime_s, mtime_ns=item.entry.mtime_ns)
            marks[item.path] = [
                Item(path, replace(made, name=path.rpartition(b"/")[2]))
                for path in paths
                if path not in taken
            ]
    return marks


def link_counts(items: Iterable[Item]) -> Mapping[bytes, int]:
    """The link count of every directory among the items: 2 and one for each directory in it."""
    counts: Counter[bytes] = Counter()
    for item in items:
        if item.entry.is_directory:
            counts[item.path] += 2
            if item.path:
                counts[item.path.rpartition(b"/")[0]] += 1
    return counts
