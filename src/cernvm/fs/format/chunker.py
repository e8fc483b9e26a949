"""Where large files are cut into chunks, so that an insertion changes the chunks around it and no others.

The format's detector `xor32` keeps x = (x << 1) ^ byte modulo 2^32 and cuts where x comes within a threshold of
0x7fffffff. A byte leaves x after 32 steps, so a cut depends on the 32 bytes up to it and on nothing else; and bit i of
x, for i ≥ 7, is s(p - i), where s(q) is the parity of bit j of byte q + j over j = 0..7. So "bits 31..9 of x are 0 and
then ones, or 1 and then zeros" reads: the one-bit stream s holds a run of equal bits after a change. The stream takes
three shifts of one long integer, the runs a byte search, and only the few places found need x itself.
Source: docs/formats/repository.md, "Chunks"; bench/publish.py has the speed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from cernvm.core.errors import InvalidInputError

_CENTRE = 0x7FFF_FFFF
_ALL_ONES = 0xFFFF_FFFF  # where the original's arithmetic overflows, and cuts
_WINDOW = 32
_LOW_BITS = 7  # the bits of x that s does not give


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """How large the chunks of a file may be; the format's usual values. Units: bytes of content."""

    minimum: int = 4 << 20
    average: int = 8 << 20
    maximum: int = 16 << 20

    def __post_init__(self) -> None:
        if not _WINDOW < self.minimum <= self.average <= self.maximum < 1 << 32:
            raise InvalidInputError(
                f"chunk sizes {self.minimum}, {self.average}, {self.maximum} make no sense"
            )

    @property
    def threshold(self) -> int:
        """How near to the centre x must come."""
        return 0xFFFF_FFFF // self.average


class CutFinder:
    """Finds the cut marks of one file that is fed block by block.

    Shape: a mark is the offset of a chunk's first byte; neither 0 nor the file's end is one.
    """

    def __init__(self, sizes: ChunkSizes) -> None:
        self._sizes = sizes
        self._last_cut = 0
        self._position = 0  # bytes fed so far
        self._tail = b""  # the last bytes fed, which the next block's windows reach into

    def feed(self, block: bytes) -> list[int]:
        """The marks within this block, in order."""
        data = self._tail + block
        start = self._position - len(self._tail)  # offset in the file of data[0]
        self._position += len(block)
        self._tail = data[-(_WINDOW - 1) :]
        found: list[int] = []
        end = self._position
        while (first := self._last_cut + self._sizes.minimum) < end:
            forced = self._last_cut + self._sizes.maximum
            first = max(first, end - len(block))
            mark = self._first_candidate(data, start, first, min(forced, end))
            if mark is None and forced < end:
                mark = forced
            if mark is None:
                break
            found.append(mark)
            self._last_cut = mark
        return found

    def _first_candidate(self, data: bytes, start: int, first: int, end: int) -> int | None:
        """The first offset in [first, end) where x says cut; whole windows lie in `data`, which begins at `start`."""
        base = first - (_WINDOW - 1)
        window = data[base - start : end - start]
        found = next(candidates(window, threshold=self._sizes.threshold), None)
        return None if found is None else base + found


def candidates(data: bytes, *, threshold: int) -> Iterator[int]:
    """All offsets in `data`, from the first whole window on, at which the detector would cut, in order."""
    stream = _parity_stream(data)
    return heapq.merge(_near_centre(data, stream, threshold), _all_ones(data, stream))


def _near_centre(data: bytes, stream: bytes, threshold: int) -> Iterator[int]:
    zeros, ones = _run_patterns(threshold)
    next_zeros, next_ones = stream.find(zeros), stream.find(ones)
    while next_zeros >= 0 or next_ones >= 0:
        at = min(place for place in (next_zeros, next_ones) if place >= 0)
        mark = at + _WINDOW - 1
        if mark >= len(data):
            return
        if abs(_state(data, mark) - _CENTRE) < threshold:
            yield mark
        if at == next_zeros:
            next_zeros = stream.find(zeros, at + 1)
        if at == next_ones:
            next_ones = stream.find(ones, at + 1)


def _all_ones(data: bytes, stream: bytes) -> Iterator[int]:
    """Where x is all ones: its upper 25 bits are a run in the stream, its low byte must be 0xff as well."""
    run = b"\1" * (_WINDOW - _LOW_BITS)
    at = stream.find(run)
    while at >= 0 and at + _WINDOW <= len(data):
        end = stream.find(b"\0", at)
        end = len(stream) if end < 0 else end
        # every place from `at` with the whole run before `end` may be one: look at the low byte of x there
        first, last = at + _WINDOW - 1, min(end - len(run) + _WINDOW, len(data))
        low = _low_bytes(data[first - _LOW_BITS : last])
        place = low.find(b"\xff", _LOW_BITS)
        while place >= 0:
            mark = first - _LOW_BITS + place
            if _state(data, mark) == _ALL_ONES:
                yield mark
            place = low.find(b"\xff", place + 1)
        at = stream.find(run, end)


def _parity_stream(data: bytes) -> bytes:
    """One byte, 0 or 1, per byte of `data`: s(q), the parity of bit j of byte q + j over j = 0..7."""
    number = int.from_bytes(data, "little")
    number ^= number >> 9
    number ^= number >> 18
    number ^= number >> 36
    return (number & _lowest_bits(len(data))).to_bytes(len(data), "little")


@lru_cache(maxsize=4)  # blocks are of one size, mostly
def _lowest_bits(count: int) -> int:
    return int.from_bytes(b"\1" * count, "little")


def _low_bytes(data: bytes) -> bytes:
    """The lowest byte of x after each byte of `data`, right from the eighth on."""
    number = int.from_bytes(data, "little")
    for distance, keep in ((1, 0x7F), (2, 0x3F), (4, 0x0F)):
        mask = int.from_bytes(bytes((keep,)) * len(data), "little")
        number ^= (number & mask) << (9 * distance)
    return (number & ((1 << 8 * len(data)) - 1)).to_bytes(len(data), "little")


def _run_patterns(threshold: int) -> tuple[bytes, bytes]:
    """What the stream looks like, from p - 31 on, where x may be near the centre: a bit, then a run of the other."""
    equal = 31 - max(threshold.bit_length(), _LOW_BITS)
    return b"\1" + b"\0" * equal, b"\0" + b"\1" * equal


def _state(data: bytes, mark: int) -> int:
    """The detector's x after the byte at `mark`."""
    x = 0
    for byte in data[mark - _WINDOW + 1 : mark + 1]:
        x = (x << 1 ^ byte) & 0xFFFF_FFFF
    return x
