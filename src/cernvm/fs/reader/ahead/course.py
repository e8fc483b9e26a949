"""What is likely wanted after a file, in three ways: its directory, its surroundings, or where a walk goes from there.

A walk goes on through the file's directory in the order of its listing, each directory below where it stands, and then
on above. A course is long: its follower stops when it no longer pays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cernvm.fs.cache import ContentKey
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import NestedCatalog
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.pack import Pack
from cernvm.fs.reader.ahead.tally import Way
from cernvm.fs.reader.pieces import Piece

USUAL_RATIO = 0.4
MAX_DEPTH = 64  # of a walk
MAX_UP, MAX_DOWN = 2, 3
MAX_SURROUNDING = 256  # directories
MANY = 64  # files of a suffix in one directory: of such collections a program reads a small part, if any


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object that may be fetched ahead. Units: `size_bytes` of content."""

    way: Way
    key: ContentKey
    kind: ObjectKind
    size_bytes: int

    @property
    def transfer_bytes(self) -> int:
        """About what is to be transferred, which only its coming tells."""
        is_plain = self.key.compression is Compression.NONE
        return self.size_bytes if is_plain else int(USUAL_RATIO * self.size_bytes)

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
    def transfer_bytes(self) -> int:
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


def walk(path: bytes, survey: Survey) -> Iterator[Step]:
    """What a walk in the order of listings takes from the file at `path` on; then the files before it in its directory.

    `survey` tells what a directory holds; None where that would have to be fetched first.
    """
    above, _, name = path.rpartition(b"/")
    folder = survey(above)
    if folder is None:
        return
    yield from _packs(folder)
    place = _place(folder, name)
    yield from _stops(above, folder.stops[place:], survey, MAX_DEPTH)
    yield from _own(folder.stops[:place])
    while above:
        above, _, name = above.rpartition(b"/")
        folder = survey(above)
        if folder is None:
            return
        yield from _packs(folder)
        yield from _stops(above, folder.stops[_place(folder, name) :], survey, MAX_DEPTH)


def directory(path: bytes, survey: Survey) -> Iterator[Step]:
    """The other files in the directory of the one at `path`, those of the same suffix first."""
    above, _, name = path.rpartition(b"/")
    folder = survey(above)
    if folder is None:
        return
    yield from _packs(folder)
    place = _place(folder, name)
    stops = [*folder.stops[place:], *folder.stops[: max(0, place - 1)]]
    suffix = _suffix(name)
    yield from _own([stop for stop in stops if _suffix(stop.name) == suffix])
    yield from _own([stop for stop in stops if _suffix(stop.name) != suffix])


def surroundings(path: bytes, survey: Survey) -> Iterator[Step]:
    """The directory of the file at `path`, then files of the same suffix near by: what a program reads that starts.

    The subtrees of the next directories above, level by level, so that what lies deep in one of them, as tests do,
    comes last; and of each level the directories with many such files.
    """
    yield from directory(path, survey)
    above, _, name = path.rpartition(b"/")
    known = {above}
    for _ in range(MAX_UP):
        if not above:
            return
        above = above.rpartition(b"/")[0]
        yield from _levels(above, survey, _suffix(name), known)


def _levels(top: bytes, survey: Survey, suffix: bytes, known: set[bytes]) -> Iterator[Step]:
    level = [top]
    for _ in range(MAX_DOWN):
        below: list[bytes] = []
        collections = []
        for path in level:
            if len(known) >= MAX_SURROUNDING:
                break
            folder = survey(path)
            if folder is None:
                continue
            if path not in known:
                known.add(path)
                yield from _packs(folder)
                alike = [stop for stop in folder.stops if _suffix(stop.name) == suffix]
                if len(alike) > MANY:
                    collections.append(alike)
                else:
                    yield from _own(alike)
            if len(below) < 2 * MAX_SURROUNDING:
                below += [path + b"/" + stop.name for stop in folder.stops if stop.is_directory]
        for alike in collections:
            yield from _own(alike)
        level = below


def _suffix(name: bytes) -> bytes:
    return name.rpartition(b".")[2]


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
