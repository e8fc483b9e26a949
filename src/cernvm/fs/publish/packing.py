"""Small objects into packs, which are written once: equal lists of objects are equal packs.

Flow: `Packer.stretches` for a catalog (`cutting` decides where packs end), `Packer.pack` for any list of objects.
Source: docs/formats/packs.md.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cernvm.core.digest import Digest
from cernvm.core.errors import NotFoundError
from cernvm.core.log import fields
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.pack import MAX_OBJECT_BYTES, Pack, PackedObject, format_pack
from cernvm.fs.format.pack_table import (
    MAX_PATH_BYTES,
    PackedStretch,
    count_readable,
    packing_keys,
)
from cernvm.fs.publish.content import Progress
from cernvm.fs.publish.cutting import cut_stretches
from cernvm.fs.publish.index import Index
from cernvm.fs.publish.repository import Repository
from cernvm.fs.store.port import ObjectStore

_FEW_LANES = 2  # of a store that is asked for nothing but bytes on a disk

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SmallObject:
    """An object of the store that may go into a pack. Units: `content_bytes` once inflated."""

    digest: Digest
    kind: ObjectKind
    compression: Compression
    content_bytes: int


@dataclass(frozen=True, slots=True)
class SmallFile:
    """A path whose content goes into a pack. Shape: `first` is the first half of the path's key."""

    path: bytes
    first: int
    content: SmallObject


@dataclass(slots=True)
class Packer:
    """Puts packs into the store; none at all for a repository that is published without."""

    repository: Repository
    store: ObjectStore
    index: Index
    progress: Progress
    is_on: bool = True

    def stretches(self, small: Iterable[SmallFile]) -> tuple[PackedStretch, ...]:
        """The packs of a catalog's small files, in packing order."""
        if not self.is_on:
            return ()
        files = [file for file in small if len(file.path) <= MAX_PATH_BYTES]
        keys = packing_keys([file.path for file in files], [file.first for file in files])
        order = sorted(range(len(files)), key=keys.__getitem__)
        sizes = [(keys[place], files[place].content.content_bytes) for place in order]
        found = []
        for stretch in cut_stretches(sizes):
            packed = [files[order[place]] for place in stretch]
            pack = self.pack([file.content for file in packed])
            if pack is not None:
                found.append(PackedStretch(packed[0].path, packed[-1].path, pack))
        return tuple(found[: count_readable(found)])

    def pack(self, objects: Sequence[SmallObject]) -> Pack | None:
        """The pack of these objects, each once, in this order; None where none of them could be packed."""
        lines = {_line(one): one for one in objects}
        unique = list(lines.values())
        fingerprint = hashlib.sha256(b"".join(lines)).digest()
        known = self.index.pack(fingerprint)
        if known is not None and self.store.has(object_path(known.digest, ObjectKind.PACK)):
            return known
        rows = [row for row in self._rows(unique) if row is not None]
        if not rows:
            return None
        data = format_pack(rows)
        pack = Pack(self.repository.algorithm.digest(data), len(data), len(rows))
        path = object_path(pack.digest, ObjectKind.PACK)
        is_new = not self.store.has(path)
        if is_new:
            self.store.put(path, data)
        self.progress.add_pack(len(data) if is_new else 0)
        if len(rows) == len(unique):
            self.index.remember_pack(fingerprint, pack)
        return pack

    def _rows(self, objects: Sequence[SmallObject]) -> Iterable[tuple[PackedObject, bytes] | None]:
        """The objects with their bytes, which a store far away is asked for in parallel."""
        if self.store.lanes <= _FEW_LANES:
            return map(self._row, objects)
        with ThreadPoolExecutor(self.store.lanes, thread_name_prefix="packs") as pool:
            return list(pool.map(self._row, objects))

    def _row(self, one: SmallObject) -> tuple[PackedObject, bytes] | None:
        """An object with its stored bytes; None, as readers would refuse it, where the store lost or damaged it."""
        path = object_path(one.digest, one.kind)
        try:
            stored = self.store.get(path)
        except NotFoundError:
            stored = None
        is_good = (
            stored is not None
            and len(stored) <= MAX_OBJECT_BYTES
            and one.digest.algorithm.digest(stored) == one.digest
        )
        if stored is None or not is_good:
            log.warning("pack.object_left_out", extra=fields(path=path))
            return None
        row = PackedObject(one.digest, one.kind, one.compression, len(stored), one.content_bytes)
        return row, stored


def _line(one: SmallObject) -> bytes:
    """What makes an object the same in a fingerprint."""
    return f"{one.digest}{one.kind.value} {int(one.compression)} {one.content_bytes}\n".encode()
