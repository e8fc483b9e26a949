"""Small objects that came before a reader asked: verified, kept in memory as they are stored, inflated when taken.

What nobody takes costs no inflating and no disk, so an object that was foretold wrongly costs little but its transfer.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from cernvm.fs.cache import ContentKey

LOOK_AGAIN_S = 0.005  # after it should have come: whether it is still worth waiting for


class Origin(Protocol):
    """Whatever an object came with; it hears what became of it."""

    def used(self, size_bytes: int) -> None:
        """A reader took it."""

    def wasted(self, size_bytes: int) -> None:
        """It was given up."""


class _Unheard:
    """An origin that does not care."""

    def used(self, size_bytes: int) -> None:
        pass

    def wasted(self, size_bytes: int) -> None:
        pass


UNHEARD = _Unheard()


class Carrier(Protocol):
    """Something under way that will bring objects."""

    def due_s(self, raw_digest: bytes) -> float:
        """About how long until it brings this one."""


@dataclass(frozen=True, slots=True)
class Ration:
    """One object: `stored` has the digest of `key`; `content_bytes` is what is said of its content, to limit it."""

    key: ContentKey
    stored: bytes
    content_bytes: int
    origin: Origin
    came_at_s: float


class Larder:
    """Objects by their raw digest, at most `limit_bytes` as stored, the oldest given up first.

    `overflow` gets what is given up for lack of room, or because it came again. Concurrency: safe from any thread.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.overflow: Callable[[Ration], None] = lambda _ration: None
        self.limit_bytes = limit_bytes
        self._rations: OrderedDict[bytes, Ration] = OrderedDict()
        self._size_bytes = 0
        self._carriers: dict[bytes, Carrier] = {}
        self._changed = threading.Condition(threading.Lock())
        self._waiting = 0

    def __contains__(self, raw_digest: bytes) -> bool:
        return raw_digest in self._rations

    @property
    def size_bytes(self) -> int:
        """What it holds."""
        return self._size_bytes

    def is_foreseen(self, raw_digest: bytes) -> bool:
        """Whether an object is here or on its way."""
        return raw_digest in self._rations or raw_digest in self._carriers

    def expect(self, raw_digests: Iterable[bytes], carrier: Carrier) -> None:
        """State that `carrier` will bring these, until it has `ended`."""
        with self._changed:
            for raw in raw_digests:
                self._carriers.setdefault(raw, carrier)

    def put(self, key: ContentKey, stored: bytes, content_bytes: int, origin: Origin) -> None:
        """Keep an object whose digest is right."""
        raw = key.digest.raw
        given_up: list[Ration] = []
        with self._changed:
            self._carriers.pop(raw, None)
            if (twice := self._drop(raw)) is not None:
                given_up.append(twice)
            self._rations[raw] = Ration(key, stored, content_bytes, origin, time.monotonic())
            self._size_bytes += len(stored)
            while self._size_bytes > self.limit_bytes:
                given_up.append(self._pop_oldest())
            if self._waiting:
                self._changed.notify_all()
        for ration in given_up:
            self.overflow(ration)

    def ended(self, raw_digests: Iterable[bytes], carrier: Carrier) -> None:
        """State that `carrier` brings nothing more."""
        with self._changed:
            for raw in raw_digests:
                if self._carriers.get(raw) is carrier:
                    del self._carriers[raw]
            if self._waiting:
                self._changed.notify_all()

    def take(self, raw_digest: bytes) -> Ration | None:
        """The object, which then is no longer here."""
        if raw_digest not in self._rations:  # without the lock: most looks find nothing
            return None
        with self._changed:
            return self._drop(raw_digest)

    def wait(self, raw_digest: bytes, patience_s: float) -> bool:
        """Wait while something under way should bring the object within `patience_s`; True when it is here."""
        if raw_digest in self._rations:
            return True
        if raw_digest not in self._carriers:
            return False
        ends_at_s = time.monotonic() + patience_s
        with self._changed:
            self._waiting += 1
            try:
                while raw_digest not in self._rations:
                    carrier = self._carriers.get(raw_digest)
                    left_s = ends_at_s - time.monotonic()
                    due_s = carrier.due_s(raw_digest) if carrier is not None else left_s
                    if carrier is None or left_s <= 0 or due_s > left_s:
                        return False
                    self._changed.wait(min(left_s, due_s + LOOK_AGAIN_S))
                return True
            finally:
                self._waiting -= 1

    def take_older_than(self, age_s: float, limit: int) -> list[Ration]:
        """The oldest objects that have waited so long, at most `limit`."""
        found: list[Ration] = []
        before_s = time.monotonic() - age_s
        with self._changed:
            while self._rations and len(found) < limit:
                if next(iter(self._rations.values())).came_at_s > before_s:
                    break
                found.append(self._pop_oldest())
        return found

    def _pop_oldest(self) -> Ration:
        _, ration = self._rations.popitem(last=False)
        self._size_bytes -= len(ration.stored)
        return ration

    def _drop(self, raw_digest: bytes) -> Ration | None:
        ration = self._rations.pop(raw_digest, None)
        if ration is not None:
            self._size_bytes -= len(ration.stored)
        return ration
