"""Objects kept on disk, at most so many bytes of them: what nobody asked for in the longest time goes first.

Files lie as in any other store, so that a web server can export them too. What is there is verified again whenever it
is read: it may have lain for years, and nothing is synced when it is kept.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from cernvm.core.digest import DIGEST_BYTES, Algorithm, Digest
from cernvm.core.errors import FormatError
from cernvm.core.home import ensure_folder
from cernvm.fs.format.objects import ObjectKind, object_path, parse_object_path
from cernvm.fs.store.parts import FileParts, Parts

_LOW_WATER = 0.9
_TOUCH_S = 3600.0  # how exactly a file's time says when it was last asked for
_TEMPORARY = "data/txn"
_BLOCK_BYTES = 1 << 20


@dataclass(slots=True)
class _Kept:
    size_bytes: int
    asked_at: float


class Shelf:
    """The objects in `folder`. Concurrency: safe from any thread; one process has it."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._numbers = count()
        self._ready: set[str] = set()
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._bytes = 0
        ensure_folder(folder / _TEMPORARY)
        self._find()

    @property
    def size_bytes(self) -> int:
        """How much is kept."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, path: str) -> bool:
        return _key(path) in self._kept

    def open(self, path: str) -> Parts | None:
        """An object, if it is here and whole; one that is damaged goes."""
        key = _key(path)
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
        try:
            parts = FileParts.at(self.folder / path)
        except OSError:
            parts = None
        if parts is None or not _is_right(parts, path):
            if parts is not None:
                parts.close()
            self._drop(path, key)
            return None
        self._touch(path, key)
        return parts

    def temporary(self) -> Path:
        """The name of a file for what is on its way here."""
        return self.folder / _TEMPORARY / f"{os.getpid()}-{next(self._numbers)}"

    def put(self, path: str, data: bytes) -> None:
        """Keep an object; `OSError` where the disk does not take it."""
        if path in self or len(data) > self.limit_bytes:
            return
        temporary = self.temporary()
        try:
            temporary.write_bytes(data)
            self.take(path, temporary)
        finally:
            with suppress(OSError):
                temporary.unlink()

    def take(self, path: str, file: Path) -> None:
        """Keep an object that is in one of our temporary files; as `put`."""
        key = _key(path)
        size_bytes = file.stat().st_size
        with self._lock:
            if key in self._kept or size_bytes > self.limit_bytes:
                return
        folder = path.rpartition("/")[0]
        if folder not in self._ready:
            ensure_folder(self.folder / folder)
            self._ready.add(folder)
        file.replace(self.folder / path)
        with self._lock:
            if key not in self._kept:
                self._bytes += size_bytes
            self._kept[key] = _Kept(size_bytes, time.time())
            going = self._oldest()
        for old in going:
            with suppress(OSError):
                (self.folder / _path(old)).unlink()

    def paths(self) -> list[str]:
        """What is kept, the longest not asked for first."""
        with self._lock:
            return [_path(key) for key in self._kept]

    def _oldest(self) -> list[bytes]:
        going: list[bytes] = []
        if self._bytes <= self.limit_bytes:
            return going
        while self._bytes > self.limit_bytes * _LOW_WATER and len(self._kept) > 1:
            key, kept = self._kept.popitem(last=False)
            self._bytes -= kept.size_bytes
            going.append(key)
        return going

    def _drop(self, path: str, key: bytes) -> None:
        with self._lock:
            kept = self._kept.pop(key, None)
            if kept is None:
                return
            self._bytes -= kept.size_bytes
        with suppress(OSError):
            (self.folder / path).unlink()

    def _touch(self, path: str, key: bytes) -> None:
        """Have the file's time outlive the process, now and then."""
        now = time.time()
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or now - kept.asked_at < _TOUCH_S:
                return
            kept.asked_at = now
        with suppress(OSError):
            os.utime(self.folder / path)

    def _find(self) -> None:
        """What an earlier process kept; what it left half-written goes."""
        for left in (self.folder / _TEMPORARY).iterdir():
            with suppress(OSError):
                left.unlink()
        found = []
        for folder in os.scandir(self.folder / "data"):
            if len(folder.name) != 2:  # as object_path makes them
                continue
            for file in os.scandir(folder.path):
                with suppress(OSError, FormatError):
                    key = _key(f"data/{folder.name}/{file.name}")
                    status = file.stat(follow_symlinks=False)
                    found.append((status.st_mtime, key, status.st_size))
        for asked_at, key, size_bytes in sorted(found):
            self._kept[key] = _Kept(size_bytes, asked_at)
            self._bytes += size_bytes


def _is_right(parts: Parts, path: str) -> bool:
    digest, _ = parse_object_path(path)
    hasher, at = digest.algorithm.hasher(), 0
    try:
        while block := parts.read(at, _BLOCK_BYTES):
            hasher.update(block)
            at += len(block)
    except OSError:
        return False
    return digest.algorithm.finish(hasher) == digest


def _key(path: str) -> bytes:
    """A path as few bytes. Errors: `FormatError` for what is no object's path."""
    digest, kind = parse_object_path(path)
    return digest.raw + bytes([digest.algorithm.flag]) + kind.value.encode()


def _path(key: bytes) -> str:
    digest = Digest(Algorithm.from_flag(key[DIGEST_BYTES]), key[:DIGEST_BYTES])
    return object_path(digest, ObjectKind(key[DIGEST_BYTES + 1 :].decode()))
