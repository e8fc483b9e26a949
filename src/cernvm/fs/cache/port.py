"""The port of the cache: content under the digest it was verified by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from cernvm.core.digest import Digest
from cernvm.fs.format.compress import Compression


@dataclass(frozen=True, slots=True)
class ContentKey:
    """What content is cached under: the stored object's digest, and how that object was turned into content.

    The compression belongs to it: a repository may declare another's compressed object to be uncompressed, and what it
    then gets must not be served to the other.
    """

    digest: Digest
    compression: Compression = Compression.ZLIB

    @property
    def name(self) -> str:
        """The path of the content below the cache's folder."""
        text = str(self.digest)
        suffix = ".plain" if self.compression is Compression.NONE else ""
        return f"{text[:2]}/{text[2:]}{suffix}"


class Rank(IntEnum):
    """What goes first when room is needed; within a rank the least recently used does."""

    VOLATILE = 0  # of a repository that says its content is short-lived
    AHEAD = 1  # fetched before anybody asked; its first reader makes it REGULAR
    REGULAR = 2

    @property
    def when_used(self) -> Rank:
        """The rank of content that somebody has read."""
        return Rank.REGULAR if self is Rank.AHEAD else self


@dataclass(frozen=True, slots=True)
class Usage:
    """How full the cache is. Units: bytes of content."""

    quota_bytes: int
    used_bytes: int
    pinned_bytes: int


class Content(Protocol):
    """Content that can be read for as long as the object is held, also after its eviction."""

    @property
    def size_bytes(self) -> int:
        """Its length."""

    @property
    def path(self) -> Path | None:
        """Where it lies as a file (gone after an eviction); None in memory."""

    def pread(self, offset: int, size_bytes: int) -> bytes:
        """Bytes from `offset` on; fewer only at the end. Errors: `HostError` when the disk fails."""

    def duplicate(self) -> int | None:
        """A descriptor of the very file that was verified, which the caller closes; None in memory or without room."""


class Draft(Protocol):
    """Content that is being written; nobody else sees it before `commit`."""

    def write(self, data: bytes, /) -> None:
        """Add bytes. Errors: `SpaceError` when neither eviction nor the quota leaves room."""

    def commit(self) -> Content:
        """Make it the content of its key; the caller vouches that it was verified."""

    def discard(self) -> None:
        """Forget it; also allowed after `commit`, without effect."""


class Cache(Protocol):
    """Content by key, least recently used first out.

    Concurrency: safe from any thread; adapters say which processes may share one.
    """

    def open(self, key: ContentKey) -> Content | None:
        """The content, or None; counts as a use."""

    def draft(self, key: ContentKey, *, rank: Rank = Rank.REGULAR) -> Draft:
        """Begin to write content."""

    def put_small(self, key: ContentKey, data: bytes, *, rank: Rank = Rank.REGULAR) -> Content:
        """Take whole, verified content that is in memory already; it can be read at once.

        Cheaper than a draft: it may be written later, many together, and be lost in a crash. Not for what must have a
        path (catalogs). Errors: none; what cannot be written stays readable for whoever holds it.
        """

    def pin(self, key: ContentKey) -> None:
        """Keep content from eviction until as many `unpin`s, or until this process ends."""

    def unpin(self, key: ContentKey) -> None:
        """Undo one `pin`."""

    def evict(self, key: ContentKey) -> None:
        """Remove content, pinned or not, because it proved damaged."""

    def usage(self) -> Usage:
        """How full the cache is; may lag a few seconds behind other processes."""

    def close(self) -> None:
        """Write down what is only known here; contents that are held stay readable."""
