"""Where packs end, so that they follow the tree, and that a change moves the cuts around it and no others; pure.

Source: docs/formats/packs.md, "Writing them".
"""

from __future__ import annotations

from collections.abc import Sequence

from cernvm.fs.format.pack_table import PackingKey

LEAST_BYTES = 1 << 20
MOST_BYTES = 2 << 20
OBJECT_BYTES = 512  # what an object counts besides its content: bounds a pack's objects, and stands for their cost


def cut_stretches(files: Sequence[tuple[PackingKey, int]]) -> list[range]:
    """The positions of each stretch; `files` are keys, in packing order, and sizes of content."""
    stretches = []
    start = 0
    while start < len(files):
        end = _end(files, start)
        stretches.append(range(start, end))
        start = end
    return stretches


def _end(files: Sequence[tuple[PackingKey, int]], start: int) -> int:
    counted = 0
    best: tuple[int, int] | None = None
    end = start + 1
    for at in range(start, len(files)):
        key, size_bytes = files[at]
        if at > start and counted >= LEAST_BYTES:
            cut = (_depth(files[at - 1][0], key), key[1])
            if best is None or cut < best:
                best, end = cut, at
        counted += size_bytes + OBJECT_BYTES
        if counted > MOST_BYTES and at > start:
            return end if best is not None else at
    return len(files)


def _depth(before: PackingKey, after: PackingKey) -> int:
    """How deep in the tree a cut between two neighbours would be; the least is the best."""
    common = 0
    for one, other in zip(before[0], after[0], strict=False):
        if one != other:
            break
        common += 1
    return common + (before[0] == after[0])
