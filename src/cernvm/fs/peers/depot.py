"""Objects as servers store them, kept for peers: a folder of files, bounded, the least recently used gone first.

Several processes may share a folder: nothing is known but what lies there. What is read from it is judged by its
digest before it goes anywhere, so a crash, a full disk or a flipped bit costs an object and nothing else.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from cernvm.core.errors import DeniedError, FormatError
from cernvm.core.log import fields
from cernvm.fs.format.objects import ObjectKind, parse_object_path
from cernvm.fs.format.pack import MAX_OBJECTS, MAX_PACK_BYTES, head_bytes
from cernvm.fs.peers.packed import PackedIndex

MAX_OBJECT_BYTES = MAX_PACK_BYTES
FREE_SHARE = 0.05  # of the partition that is left to others
_LEFT_SHARE = 0.875  # of the limit that stays when room is made
_STALE_S = 3600.0

log = logging.getLogger(__name__)


def is_right(path: str, stored: bytes) -> bool:
    """Whether bytes are those of the object that a path names."""
    digest, _ = parse_object_path(path)
    return digest.algorithm.digest(stored) == digest


class Holdings(Protocol):
    """What there is for peers. Concurrency: safe from any thread; no verb raises what a disk or a store may."""

    def put(self, path: str, stored: bytes) -> None:
        """Somebody sent an object, whose digest is right; it may be kept."""

    def get(self, path: str) -> bytes | None:
        """An object whose digest is right."""


class Depot:
    """Stored bytes by their path in the repository. Concurrency: safe from any thread and process.

    Errors: `DeniedError` for a folder that others could write into.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._is_open = _open_folder(folder)
        self._packed = PackedIndex()
        self._unheard_bytes = 0
        self._lock = threading.Lock()
        self._trim()
        self._learn_packs()

    def put(self, path: str, stored: bytes) -> None:
        """Keep an object if its digest is right and there is room."""
        if not self._is_open or len(stored) > min(MAX_OBJECT_BYTES, self._limit_bytes):
            return
        with suppress(OSError, FormatError):
            if is_right(path, stored) and self._has_room():
                self._write(path, stored)
                self._packed.learn(path, stored)

    def get(self, path: str) -> bytes | None:
        """The object, whose digest is right; by itself or out of a pack."""
        try:
            place = self._place(path)
            stored = _read(place, 0, MAX_OBJECT_BYTES + 1)
        except FormatError:
            return None
        except OSError:
            return self._get_packed(path)
        if not is_right(path, stored):
            log.warning("depot.damaged", extra=fields(path=path))
            place.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(place)
        return stored

    def _get_packed(self, path: str) -> bytes | None:
        stretch = self._packed.find(path)
        if stretch is None:
            return None
        try:
            stored = _read(self._place(stretch.path), stretch.offset, stretch.size_bytes)
        except (OSError, FormatError):
            return None
        return stored if is_right(path, stored) else None

    def _place(self, path: str) -> Path:
        digest, kind = parse_object_path(path)
        text = f"{digest}{kind.value}"
        return self._folder / text[:2] / text[2:]

    def _write(self, path: str, stored: bytes) -> None:
        place = self._place(path)
        draft = self._folder / f"tmp.{secrets.token_hex(8)}"
        try:
            with open(draft, "xb", opener=_private) as file:
                file.write(stored)
            try:
                draft.replace(place)
            except FileNotFoundError:
                place.parent.mkdir(mode=0o700, exist_ok=True)
                draft.replace(place)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        with self._lock:
            self._unheard_bytes += len(stored)
            is_due = self._unheard_bytes > self._limit_bytes // 16
            if is_due:
                self._unheard_bytes = 0
        if is_due:
            self._trim()

    def _learn_packs(self) -> None:
        """What the packs hold that a process before this one has left."""
        for place in self._folder.glob(f"??/*{ObjectKind.PACK.value}"):
            with suppress(OSError):
                head = _read(place, 0, head_bytes(MAX_OBJECTS))
                self._packed.learn(f"data/{place.parent.name}/{place.name}", head)

    def _has_room(self) -> bool:
        partition = os.statvfs(self._folder)
        return partition.f_bavail > partition.f_blocks * FREE_SHARE

    def _trim(self) -> None:
        """Look what lies there, whoever wrote it, and make room."""
        if not self._is_open:
            return
        found: list[tuple[float, int, str]] = []
        stale_s = time.time() - _STALE_S
        for folder, _, names in os.walk(self._folder):
            for name in names:
                place = os.path.join(folder, name)
                with suppress(OSError):
                    about = os.lstat(place)
                    if name.startswith("tmp.") and about.st_mtime < stale_s:
                        Path(place).unlink()
                    else:
                        found.append((about.st_mtime, about.st_size, place))
        used_bytes = sum(size_bytes for _, size_bytes, _ in found)
        if used_bytes <= self._limit_bytes * (1 - 1 / 16):
            return
        for _, size_bytes, place in sorted(found):
            if used_bytes <= self._limit_bytes * _LEFT_SHARE:
                break
            with suppress(OSError):
                Path(place).unlink()
                used_bytes -= size_bytes


def _read(place: Path, offset: int, most_bytes: int) -> bytes:
    with open(place, "rb", opener=_private, buffering=0) as file:
        file.seek(offset)
        return file.read(most_bytes) or b""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _open_folder(folder: Path) -> bool:
    """Whether the folder can be used; a disk that refuses it keeps nobody from reading."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat(follow_symlinks=False)
    except OSError as error:
        log.warning("depot.unavailable", extra=fields(folder=str(folder), error=str(error)))
        return False
    if about.st_uid != os.geteuid() or about.st_mode & 0o022:
        raise DeniedError(
            f"others could write into {folder}", advice="remove the folder, or name another cache"
        )
    return True
