"""Sparse members of tar archives: where their data belongs, and their content with the holes filled.

Source: the GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cernvm.core.errors import InvalidInputError
from cernvm.fs.publish.ingest.source import Archive
from cernvm.fs.publish.ingest.tar_header import BLOCK_BYTES, Stretch, parse_size

_MOST_STRETCHES = 1 << 20
_HOLE = bytes(256 << 10)


def read_map(records: Sequence[tuple[bytes, bytes]], archive: Archive) -> tuple[list[Stretch], int]:
    """Stretches and size that pax records tell, of whichever of GNU's three versions; the third has the map as data."""
    last = dict(records)
    if last.get(b"GNU.sparse.major") == b"1":
        size = parse_size(last.get(b"GNU.sparse.realsize", b""))
        return _map_in_data(archive), size
    size = parse_size(last.get(b"GNU.sparse.realsize") or last.get(b"GNU.sparse.size", b""))
    if b"GNU.sparse.map" in last:
        numbers = [parse_size(text) for text in last[b"GNU.sparse.map"].split(b",") if text]
    else:
        keys = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
        numbers = [parse_size(value) for key, value in records if key in keys]
    return _pairs(numbers), size


class SparseReader:
    """The content of a sparse member, read in order."""

    def __init__(
        self, stretches: Sequence[Stretch], size: int, read_stored: Callable[[int], bytes]
    ) -> None:
        self._stretches = list(reversed(stretches))
        self._size = size
        self._position = 0
        self._read_stored = read_stored

    def read(self, size: int) -> bytes:
        offset, length = self._stretches[-1] if self._stretches else (self._size, 0)
        if self._position < offset:
            hole = _HOLE[: min(size, offset - self._position)]
            self._position += len(hole)
            return hole
        if not length:
            return b""
        data = self._read_stored(min(size, offset + length - self._position))
        self._position += len(data)
        if self._position == offset + length:
            self._stretches.pop()
        return data


def _map_in_data(archive: Archive) -> list[Stretch]:
    """The map before the data: the count of stretches, then offset and size of each, a number a line."""
    text = b""
    numbers: list[int] = []
    wanted = 1
    while len(numbers) < wanted:
        block = archive.read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise InvalidInputError("the archive is cut off within the map of a sparse member")
        *lines, text = (text + block).split(b"\n")
        for line in lines[: wanted - len(numbers) if numbers else None]:
            numbers.append(parse_size(line))
            if len(numbers) == 1:
                if numbers[0] > _MOST_STRETCHES:
                    raise InvalidInputError("the map of a sparse member is too long")
                wanted = 1 + 2 * numbers[0]
            if len(numbers) == wanted:
                break
    return _pairs(numbers[1:])


def _pairs(numbers: Sequence[int]) -> list[Stretch]:
    if len(numbers) % 2 or len(numbers) > 2 * _MOST_STRETCHES:
        raise InvalidInputError("the map of a sparse member is damaged")
    return list(zip(numbers[::2], numbers[1::2], strict=True))
