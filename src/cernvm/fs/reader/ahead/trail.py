"""Whether somebody walks through the tree, or reads here and there: told from the places of misses in listings.

A walk misses the first file of a directory, or the one after its last miss there. That it does so by chance is the less
likely the more files there are, so each such miss raises the odds of a walk by their number.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from cernvm.fs.reader.ahead.course import Folder

NEAR_S = (
    0.002  # servers nearer than this are asked so quickly that fetching ahead must be sure to pay
)
SURE_ODDS = 60.0
MOST_ODDS = 1e4
MOST_PER_MISS = 4  # so that one coincidence is not taken for a walk
MANY_MISSES = 6
MAX_FOLDERS = 256
_LOST_BY_STRAY = 8.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a miss and those before it say. Shape: `misses` are those in the same directory, which `has_packs`."""

    is_walk: bool
    misses: int
    has_packs: bool

    def suffices(self, rtt_s: float) -> bool:
        """Whether to fetch ahead: for a far server a wrong guess costs less than a round trip."""
        has_many = self.has_packs and self.misses >= MANY_MISSES
        return rtt_s >= NEAR_S or self.is_walk or has_many


class Trail:
    """The misses of late. Concurrency: one thread at a time."""

    def __init__(self) -> None:
        self._odds = 1.0
        self._last: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()  # name, misses so far

    def note(self, path: bytes, folder: Folder | None) -> Evidence:
        """Take note of a miss in `folder`, None when that could not be looked at."""
        above, _, name = path.rpartition(b"/")
        last, misses = self._last.get(above, (b"", 0))
        self._last[above] = name, misses + 1
        self._last.move_to_end(above)
        if len(self._last) > MAX_FOLDERS:
            self._last.popitem(last=False)
        files = [stop.name for stop in folder.stops if stop.is_file] if folder else []
        # Programs begin with `__init__` and the like, so the first by name tells nothing, only the next.
        if _follows(files, last, name) or (last and _follows(sorted(files), last, name)):
            self._odds = min(MOST_ODDS, self._odds * min(len(files), MOST_PER_MISS))
        else:
            self._odds = max(1.0, self._odds / _LOST_BY_STRAY)
        has_packs = folder is not None and bool(folder.packs)
        return Evidence(self._odds >= SURE_ODDS, misses + 1, has_packs)


def _follows(files: list[bytes], last: bytes, name: bytes) -> bool:
    """Whether `name` comes right after `last`, or first when nothing was missed before."""
    place = files.index(last) + 1 if last in files else 0
    return place < len(files) and files[place] == name
