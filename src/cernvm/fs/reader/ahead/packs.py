"""One pack under way: its objects go into the larder while it arrives, each with its own digest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from cernvm.fs.cache import ContentKey
from cernvm.fs.format.pack import Pack, PackedObject, PackReader
from cernvm.fs.reader.larder import Larder, Origin
from cernvm.net import Sink


class Kept(NamedTuple):
    """What of a pack is of use."""

    objects: int
    size_bytes: int


class PackFlight(Sink[Kept]):
    """Takes a pack's bytes; gives what of it was kept: the objects but for those of which `is_here` says yes.

    `due_s` tells a waiting reader how far off an object is: what lies before it, at the pace that the pack has come so
    far. Concurrency: written by one thread, asked by any.
    """

    def __init__(
        self,
        pack: Pack,
        larder: Larder,
        origin: Origin,
        *,
        first_byte_s: float,
        is_here: Callable[[bytes], bool],
    ) -> None:
        self._reader = PackReader(pack)
        self._larder = larder
        self._origin = origin
        self._ends: dict[bytes, int] = {}
        self._received_bytes = 0
        self._asked_at_s = time.monotonic()
        self._first_byte_s = first_byte_s
        self._is_here = is_here
        self._came_at_s = 0.0
        self._kept = Kept(0, 0)

    def write(self, data: bytes, /) -> None:
        if not self._received_bytes:
            self._came_at_s = time.monotonic()
        self._received_bytes += len(data)
        was_unknown = self._reader.objects is None
        found = self._reader.feed(data)
        if was_unknown and self._reader.objects is not None:
            self._announce(self._reader.objects)
        for packed, stored in found:
            if self._is_here(packed.digest.raw):
                continue
            key = ContentKey(packed.digest, packed.compression)
            self._larder.put(key, stored, packed.content_bytes, self._origin)
            self._kept = Kept(self._kept.objects + 1, self._kept.size_bytes + len(stored))

    def finish(self) -> Kept:
        self._reader.finish()
        return self._kept

    def discard(self) -> None:
        self._larder.ended(self._ends, self)

    def due_s(self, raw_digest: bytes) -> float:
        now_s = time.monotonic()
        if not self._received_bytes:
            return max(0.0, self._asked_at_s + self._first_byte_s - now_s)
        left_bytes = self._ends.get(raw_digest, 0) - self._received_bytes
        pace = self._received_bytes / max(now_s - self._came_at_s, 0.001)
        return max(left_bytes, 0) / pace

    def _announce(self, objects: tuple[PackedObject, ...]) -> None:
        """Tell waiting readers what will come, and when."""
        end = 0
        for packed in objects:
            end += packed.stored_bytes
            self._ends[packed.digest.raw] = end
        self._larder.expect(self._ends, self)
