"""Which objects lie in the packs of a depot, so that a peer who asks for one of them singly gets it too. Pure."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from cernvm.core.errors import FormatError
from cernvm.fs.format.objects import ObjectKind, parse_object_path
from cernvm.fs.format.pack import head_bytes, parse_pack_head

MAX_KNOWN = 1 << 15


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where an object's stored bytes are said to lie: in the pack at `path`."""

    path: str
    offset: int
    size_bytes: int


class PackedIndex:
    """Objects by digest, the ones learned first forgotten first. Concurrency: safe from any thread."""

    def __init__(self) -> None:
        self._stretches: OrderedDict[bytes, Stretch] = OrderedDict()
        self._lock = threading.Lock()

    def learn(self, path: str, stored: bytes) -> None:
        """Take note of what an object holds, if it is a pack."""
        if not path.endswith(ObjectKind.PACK.value):
            return
        try:
            objects = parse_pack_head(stored)
        except FormatError:
            return
        offset = head_bytes(len(objects or ()))
        with self._lock:
            for packed in objects or ():
                self._stretches[packed.digest.raw] = Stretch(path, offset, packed.stored_bytes)
                offset += packed.stored_bytes
            while len(self._stretches) > MAX_KNOWN:
                self._stretches.popitem(last=False)

    def find(self, path: str) -> Stretch | None:
        """Where the object may lie; what lies there is to be judged."""
        digest, _ = parse_object_path(path)
        return self._stretches.get(digest.raw)
