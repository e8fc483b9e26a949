"""Objects in memory: the twin of the real storage."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import ExistsError, NotFoundError, SpaceError
from cernvm.storage.port import BLOCK_BYTES, Stat, check_object_path, check_sha256, checked


@dataclass(slots=True)
class _Kept:
    stat: Stat
    content: bytes


class MemoryStorage:
    """An `ObjectStorage` that lives as long as it is referenced; `capacity_bytes` bounds it."""

    def __init__(self, *, capacity_bytes: int = 1 << 30, clock: Clock | None = None) -> None:
        self._capacity_bytes = capacity_bytes
        self._clock = clock or SystemClock()
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def put(self, path: str, blocks: Iterable[bytes], *, size_bytes: int, sha256: str) -> Stat:
        check_object_path(path)
        check_sha256(sha256)
        content = b"".join(checked(blocks, path=path, size_bytes=size_bytes, sha256=sha256))
        with self._lock:
            if (kept := self._kept.get(path)) is not None:
                if kept.stat.sha256 != sha256:
                    raise ExistsError("object", path)
                return kept.stat
            used = sum(len(kept.content) for kept in self._kept.values())
            if used + size_bytes > self._capacity_bytes:
                raise SpaceError(f"no room for {size_bytes} bytes of {path}")
            stat = Stat(path, size_bytes, sha256, self._clock.now())
            self._kept[path] = _Kept(stat, content)
            return stat

    def get(self, path: str) -> Iterator[bytes]:
        kept = self._find(path)
        blocks = (
            kept.content[start : start + BLOCK_BYTES]
            for start in range(0, len(kept.content), BLOCK_BYTES)
        )
        size_bytes, sha256 = kept.stat.size_bytes, kept.stat.sha256
        return checked(blocks, path=path, size_bytes=size_bytes, sha256=sha256)

    def stat(self, path: str, *, verify: bool = False) -> Stat:
        if verify:
            for _ in self.get(path):
                pass
        return self._find(path).stat

    def list(self, prefix: str = "") -> list[Stat]:
        below = f"{check_object_path(prefix)}/" if prefix else ""
        return [self._kept[path].stat for path in sorted(self._kept) if path.startswith(below)]

    def delete(self, path: str) -> None:
        self._find(path)
        self._kept.pop(path, None)

    def alter(self, path: str, content: bytes) -> None:
        """Damage what is kept, as a bad disk would."""
        self._kept[path].content = content

    def _find(self, path: str) -> _Kept:
        try:
            return self._kept[check_object_path(path)]
        except KeyError:
            raise NotFoundError("object", path, advice="see: cvm storage ls") from None
