"""Where the bytes of a request's path are: a file of a known repository, or what another room answers beside them.

Names are checked by pattern before anything touches a disk, and what is found are regular files below a repository's
storage, or what another store than a folder has.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from cernvm.core.errors import FormatError, HostError, NotFoundError
from cernvm.fs.format.objects import parse_object_path
from cernvm.fs.publish.web.answers import Facts
from cernvm.fs.store.headers import cache_control, content_type
from cernvm.fs.store.opening import open_store
from cernvm.fs.store.parts import FileParts, MemoryParts, PartedStore, Parts
from cernvm.fs.store.port import ObjectStore

_PATH = re.compile(
    r"/cvmfs/(?P<name>[a-z0-9.-]+)/"
    r"(?P<file>\.cvmfs[a-z_]+|\.cvmfs_status\.json|\.cvmfsalt-[0-9a-f]{40}(?:-[a-z0-9]+)?[A-Z]?"
    r"|data/[0-9a-f]{2}/[0-9a-f]{30,62}(?:-[a-z0-9]+)?[A-Z]?)"
)

# Names of repositories and the locations of their stores.
Storages = Callable[[], Mapping[str, str]]
# The open store of a repository that has no location; None for an unknown one.
Opened = Callable[[str], ObjectStore | None]


class Document(Protocol):
    """What is served beside repositories."""

    @property
    def body(self) -> bytes: ...

    @property
    def content_type(self) -> str: ...

    @property
    def max_age_s(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A GET for a path that is no file of a repository; `forwarded_for` is the header of that name."""

    path: str
    address: str
    forwarded_for: str


# What else there is; `InvalidInputError` for a question that is none.
Beside = Callable[[Asked], Document | None]


@dataclass(frozen=True, slots=True)
class Found:
    """The bytes at a path, of which the finder's caller lets go by `close`."""

    facts: Facts
    parts: Parts

    def close(self) -> None:
        self.parts.close()


class Shelves:
    """All that is served. Concurrency: safe from any thread.

    `storages` is asked again when a name is not known yet, so that a repository made meanwhile is served too; then
    `opened`. Whatever is neither's is asked of `beside`.
    """

    def __init__(self, storages: Storages, opened: Opened, beside: Beside) -> None:
        self._storages, self._opened, self._beside = storages, opened, beside
        self._known: Mapping[str, str] = storages()
        self._stores: dict[str, ObjectStore] = {}

    def find(self, asked: Asked) -> Found:
        """What is at a path. Errors: `NotFoundError`, `InvalidInputError`, and those of the store."""
        match = _PATH.fullmatch(asked.path)
        place = self._place(match["name"]) if match else None
        if match is None or place is None:
            document = self._beside(asked)
            if document is None:
                raise NotFoundError("file", asked.path)
            body = document.body
            told = f"max-age={document.max_age_s}"
            facts = Facts(len(body), _tag_of(body), None, document.content_type, told)
            return Found(facts, MemoryParts(body))
        file = match["file"]
        if isinstance(place, Path):
            return _in_folder(place, file)
        return _in_store(place, file)

    def _place(self, name: str) -> Path | ObjectStore | None:
        if name not in self._known:
            self._known = self._storages()
        location = self._known.get(name)
        if location is None:
            return self._opened(name)
        if location.startswith("/"):
            return Path(location)
        # two threads may both open it; the first one's is kept
        return self._stores.get(location) or self._stores.setdefault(location, open_store(location))


def _in_folder(folder: Path, file: str) -> Found:
    try:
        descriptor = os.open(
            folder / file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        )
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise NotFoundError("file", file) from None
        raise HostError(str(folder / file), exc.strerror or str(exc)) from exc
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise NotFoundError("file", file)
    tag = _tag_of_object(file) or f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
    facts = Facts(status.st_size, tag, modified_at, content_type(file), cache_control(file))
    return Found(facts, FileParts(descriptor))


def _in_store(store: ObjectStore, file: str) -> Found:
    tag = _tag_of_object(file)
    parts: Parts
    if tag and isinstance(store, PartedStore):
        parts = store.open(file)
    else:
        data = store.get(file)
        parts, tag = MemoryParts(data), tag or _tag_of(data)
    facts = Facts(parts.size_bytes, tag, None, content_type(file), cache_control(file))
    return Found(facts, parts)


def _tag_of_object(file: str) -> str:
    """The tag of an object: its digest, so that it is the same on every replica; empty for a root document."""
    try:
        digest, _ = parse_object_path(file)
    except FormatError:
        return ""
    return f'"{digest}"'


def _tag_of(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'
