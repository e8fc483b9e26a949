"""A cache folder that others fill too: the original client's, another user's, one on a network share. Without a quota.

Content of an alien cache cannot be told from forged content by its name, which is the digest of the compressed bytes.
So it is believed as far as its folders are: the folder that was named, and whoever may write there, are trusted;
a folder that everybody may write is refused.
Source: docs/formats/cache.md, "Alien caches".
"""

from __future__ import annotations

import itertools
import logging
import os
import stat
import threading
import time
import uuid
from collections import OrderedDict
from pathlib import Path

from cernvm.core.errors import DeniedError, HostError, SpaceError
from cernvm.core.log import fields
from cernvm.fs.cache.behind import Waiting, WriteBehind
from cernvm.fs.cache.content import FileContent
from cernvm.fs.cache.draft import FileDraft, write_whole
from cernvm.fs.cache.folder import Access, Folder
from cernvm.fs.cache.index import Row
from cernvm.fs.cache.port import Content, ContentKey, Draft, Rank, Usage
from cernvm.fs.format.compress import Compression

MAX_HELD = 64
MAX_REFUSED = 10_000
STALE_DRAFT_S = 86400.0

_PIECE_BYTES = 1 << 20
_DRAFT_PREFIX = "cvm-"

log = logging.getLogger(__name__)


class AlienCache:
    """A `Cache` in a folder of others; nothing is evicted from it, and nothing written unless `writes`.

    Concurrency: safe from any thread, process and machine.
    """

    def __init__(self, folder: Path, *, writes: bool) -> None:
        self._writes = writes
        self._lock = threading.Lock()
        self._held: OrderedDict[str, FileContent] = OrderedDict()
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._owner = f"{_DRAFT_PREFIX}{uuid.uuid4().hex}"
        self._drafts = itertools.count(1)
        try:
            self._folder = Folder(folder, _access(folder, makes_folders=writes))
            if writes:
                self._remove_stale_drafts()
        except OSError as error:
            raise SpaceError(
                f"the alien cache {folder} cannot be used: {error.strerror}",
                advice="check its name, and that you may read it (and write it, to fill it)",
            ) from error
        self._behind = WriteBehind(self._write, self._folder.remove)

    def open(self, key: ContentKey) -> Content | None:
        name = key.name
        waiting = self._behind.find(name)
        if waiting is not None:
            return waiting
        with self._lock:
            held = self._held.get(name)
            if held is not None:
                self._held.move_to_end(name)
                return held
            if name in self._refused:
                return None
        content = self._find(key)
        if content is not None:
            self._hold(name, content)
        return content

    def draft(self, key: ContentKey, *, rank: Rank = Rank.REGULAR) -> Draft:
        if not self._writes:
            raise SpaceError(f"the alien cache {self._folder.path} is not to be written")
        return FileDraft(
            _Room(), self._folder, self._draft_name(), key.name, rank=rank, quota_bytes=-1
        )

    def put_small(self, key: ContentKey, data: bytes, *, rank: Rank = Rank.REGULAR) -> Content:
        content = Waiting(data, rank=rank)
        if self._writes:
            self._behind.put(key.name, content)
        return content

    def pin(self, key: ContentKey) -> None:
        """Nothing is evicted here."""

    def unpin(self, key: ContentKey) -> None:
        """Nothing is evicted here."""

    def evict(self, key: ContentKey) -> None:
        with self._lock:
            self._held.pop(key.name, None)
            if not self._writes:  # it stays, but not for us
                self._refused[key.name] = None
                if len(self._refused) > MAX_REFUSED:
                    self._refused.popitem(last=False)
        if self._writes:
            self._behind.forget(key.name)
            self._folder.remove(key.name)
            if key.compression is Compression.NONE:
                self._folder.remove(_originals_name(key))

    def usage(self) -> Usage:
        """The partition's: what of it is the cache's would take a walk to know."""
        try:
            space = self._folder.free()
        except OSError:
            return Usage(0, 0, 0)
        total = space.f_blocks * space.f_frsize
        return Usage(total, total - space.f_bavail * space.f_frsize, 0)

    def close(self) -> None:
        self._behind.close()
        with self._lock:
            self._held.clear()
        self._folder.close()

    def _find(self, key: ContentKey) -> FileContent | None:
        """The file, if it is there and nothing speaks against it."""
        content = self._open(key.name)
        if content is None and key.compression is Compression.NONE:
            content = self._open(_originals_name(key))
            is_right = content is not None and _has_digest(content, key)
        else:
            is_right = content is not None and not _is_stored_form(content, key)
        if content is not None and not is_right:
            log.warning("cache.alien_refused", extra=fields(name=key.name))
            return None
        return content

    def _open(self, name: str) -> FileContent | None:
        try:
            return self._folder.open(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cache.unreadable", extra=fields(name=name, error=error.strerror))
            return None

    def _hold(self, name: str, content: FileContent) -> None:
        with self._lock:
            self._held[name] = content
            if len(self._held) > MAX_HELD:
                self._held.popitem(last=False)

    def _write(self, name: str, content: Waiting) -> None:
        write_whole(self._folder, self._draft_name(), name, content.data, make_room=lambda: None)

    def _draft_name(self) -> str:
        return f"{self._owner}.{next(self._drafts)}"

    def _remove_stale_drafts(self) -> None:
        """Whose process runs, on whatever machine, cannot be known; a day is long enough for any draft."""
        stale_s = time.time() - STALE_DRAFT_S
        for draft in self._folder.drafts():
            if draft.startswith(_DRAFT_PREFIX) and self._folder.draft_modified_s(draft) < stale_s:
                self._folder.discard(draft)


class _Room:
    """There is as much as the disk has."""

    def admit(self, name: str, row: Row, content: FileContent) -> FileContent:  # noqa: ARG002
        return content

    def shelter(self, content: FileContent) -> None:
        """It needs none."""

    def reserve(self, size_bytes: int) -> None:
        """Nothing is counted."""

    def make_room(self) -> None:
        """There is nothing to evict."""


def _originals_name(key: ContentKey) -> str:
    """Where the original puts content: it tells no compressions apart, but uncompressed content can be verified."""
    return key.name.removesuffix(".plain")


def _has_digest(content: Content, key: ContentKey) -> bool:
    hasher = key.digest.algorithm.hasher()
    try:
        for offset in range(0, content.size_bytes, _PIECE_BYTES):
            hasher.update(content.pread(offset, _PIECE_BYTES))
    except HostError:
        return False
    return key.digest.algorithm.finish(hasher) == key.digest


def _is_stored_form(content: Content, key: ContentKey) -> bool:
    """Whether these are the compressed bytes, put there for a repository that calls them uncompressed."""
    if key.compression is Compression.NONE:
        return False
    try:
        head = content.pread(0, 2)
    except HostError:
        return True  # what cannot be read is not believed
    looks_compressed = len(head) == 2 and head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0
    return looks_compressed and _has_digest(content, key)


def _access(folder: Path, *, makes_folders: bool) -> Access:
    """Modes like those that the folder has: what a group shares stays the group's."""
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except FileNotFoundError:
        mode = 0o770
    return Access(
        _check_not_everybodys,
        folder_mode=mode & 0o775,
        file_mode=mode & 0o664,
        draft_mode=mode & 0o775,
        makes_folders=makes_folders,
    )


def _check_not_everybodys(descriptor: int, path: Path) -> None:
    if os.fstat(descriptor).st_mode & 0o002:
        raise DeniedError(
            f"everybody may write {path}, so nothing in it can be believed",
            advice="name an alien cache that only its owner or group may write: chmod -R o-w, and check who wrote it",
        )
