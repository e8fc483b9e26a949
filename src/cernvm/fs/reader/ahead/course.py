"""What is likely wanted after a file: the way that a walk through the tree takes from there.

The course goes on through the file's directory in the order of its listing, each directory below where it stands, then
wraps round to the directory's first files, then goes on above. Whoever reads in another order still finds most of what
is wanted in the same directory. A course has no end of its own: its follower stops when it no longer pays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cernvm.fs.cache import ContentKey
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.pack import Pack
from cernvm.fs.reader.ahead.tally import Way
from cernvm.fs.reader.pieces import Piece

MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object that may be fetched ahead. Units: `size_bytes` of content."""

    way: Way
    key: ContentKey
    kind: ObjectKind
    size_bytes: int

    @classmethod
    def piece(cls, way: Way, piece: Piece) -> Wanted:
        """A part of a file."""
        return cls(way, piece.key, piece.kind, piece.size_bytes)

    @classmethod
    def catalog(cls, nested: NestedCatalog) -> Wanted:
        """A catalog, as the one above refers to it."""
        key = ContentKey(nested.digest)
        return cls(Way.CATALOG, key, ObjectKind.CATALOG, nested.size_bytes)


@dataclass(frozen=True, slots=True)
class WantedPack:
    """A pack that may be fetched ahead."""

    way: Way
    pack: Pack

    @property
    def size_bytes(self) -> int:
        """What is to be transferred."""
        return self.pack.size_bytes


@dataclass(frozen=True, slots=True)
class Stop:
    """One name of a directory, in the order of its listing.

    Shape: `is_file` is said of those that have content. `wanted` are a file's objects that no pack holds; of a
    directory, the catalog of its contents if it has one.
    """

    name: bytes
    is_directory: bool
    is_file: bool = False
    wanted: tuple[Wanted, ...] = ()


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory as a course sees it; `packs` hold its small files."""

    stops: Sequence[Stop]
    packs: Sequence[Pack] = ()


Survey = Callable[[bytes], Folder | None]
Step = Wanted | WantedPack


def course(path: bytes, survey: Survey, *, goes_on: bool = True) -> Iterator[Step]:
    """What to fetch after a miss of the file at `path`: its directory, then, if it `goes_on`, what follows in a walk.

    `survey` tells what a directory holds; None where that would have to be fetched first.
    """
    above, _, name = path.rpartition(b"/")
    folder = survey(above)
    if folder is None:
        return
    yield from _packs(folder)
    place = _place(folder, name)
    rest = folder.stops[place:]
    yield from _stops(above, rest, survey, MAX_DEPTH) if goes_on else _own(rest)
    yield from _own(folder.stops[:place])
    while goes_on and above:
        above, _, name = above.rpartition(b"/")
        folder = survey(above)
        if folder is None:
            return
        yield from _packs(folder)
        yield from _stops(above, folder.stops[_place(folder, name) :], survey, MAX_DEPTH)


def _place(folder: Folder, name: bytes) -> int:
    """Where a walk goes on after `name`."""
    return next((n for n, stop in enumerate(folder.stops, 1) if stop.name == name), 0)


def _stops(path: bytes, stops: Sequence[Stop], survey: Survey, depth: int) -> Iterator[Step]:
    for stop in stops:
        yield from stop.wanted
        if stop.is_directory and depth:
            below = path + b"/" + stop.name
            folder = survey(below)
            if folder is not None:
                yield from _packs(folder)
                yield from _stops(below, folder.stops, survey, depth - 1)


def _own(stops: Sequence[Stop]) -> Iterator[Step]:
    for stop in stops:
        yield from stop.wanted


def _packs(folder: Folder) -> Iterator[Step]:
    for pack in folder.packs:
        yield WantedPack(Way.PACK, pack)
