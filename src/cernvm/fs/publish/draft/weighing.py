"""Which directories a catalog that holds too many entries loses; pure."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CatalogLimits:
    """How many entries a catalog may hold, and how many a directory must hold to be split off by itself."""

    most_entries: int = 100_000
    fewest_entries: int = 1_000


def heavy_folders(
    parents: Sequence[int],
    names: Sequence[int],
    limits: CatalogLimits,
    unfit: Container[int] = (),
) -> list[int]:
    """The directories to split off, so that no catalog holds more than the limit where that can be had.

    Shape: `parents` are the positions of the parents of a catalog's directories, parents before children, the root's
    own first, as -1; `names` how many names each lists; `unfit` those that cannot be split off. Deepest are decided
    first, and of those in one directory the heaviest.
    """
    weights = list(names)
    below: dict[int, list[int]] = {}
    chosen: list[int] = []
    for folder in range(len(parents) - 1, -1, -1):
        for child in sorted(below.pop(folder, ()), key=lambda child: (-weights[child], child)):
            if weights[folder] <= limits.most_entries or weights[child] < limits.fewest_entries:
                break
            if child in unfit:
                continue
            chosen.append(child)
            weights[folder] -= weights[child]
        if folder:
            weights[parents[folder]] += weights[folder]
            below.setdefault(parents[folder], []).append(folder)
    return chosen
