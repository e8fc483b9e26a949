"""Sinks that turn stored bytes into content, and give it only once the digest is right."""

from __future__ import annotations

from cernvm.core.errors import DigestMismatchError, ObjectFormatError
from cernvm.fs.cache import Cache, Content, ContentKey, Rank
from cernvm.fs.cache.port import Draft
from cernvm.fs.format.compress import Compression, Inflater, inflate
from cernvm.net import Sink

SMALL_BYTES = 256 << 10  # of content: up to this it is held in memory whole
MOST_DAMAGED_BYTES = (
    1 << 20
)  # of what cannot be inflated: a host that goes on without an end must not take our time


class VerifiedDraft(Sink[Content]):
    """Writes content into the cache while it arrives."""

    def __init__(
        self, draft: Draft, key: ContentKey, path: str, size_bytes: int | None, limit_bytes: int
    ) -> None:
        self._draft = draft
        self._key = key
        self._path = path
        self._size_bytes = size_bytes
        self._hasher = key.digest.algorithm.hasher()
        self._inflater = Inflater(key.compression, limit_bytes=limit_bytes)
        self._written_bytes = 0
        self._damage: ObjectFormatError | None = None
        self._damaged_bytes = 0

    def write(self, data: bytes, /) -> None:
        self._hasher.update(data)
        if self._damage is not None:
            self._damaged_bytes += len(data)
            if self._damaged_bytes > MOST_DAMAGED_BYTES:
                raise ObjectFormatError(self._damage.reason, where=self._path)
            return
        try:
            for piece in self._inflater.feed(data):
                self._written_bytes += len(piece)
                self._draft.write(piece)
        except ObjectFormatError as error:
            # Nothing more is inflated; whether the host lied is for the digest to say.
            self._damage = error

    def finish(self) -> Content:
        got = self._key.digest.algorithm.finish(self._hasher)
        if got != self._key.digest:
            raise DigestMismatchError(
                expected=str(self._key.digest), got=str(got), source=self._path
            )
        if self._damage is not None:
            raise ObjectFormatError(self._damage.reason, where=self._path)
        self._inflater.finish()
        if self._size_bytes not in (None, self._written_bytes):
            raise _wrong_size(self._written_bytes, self._size_bytes, self._path)
        return self._draft.commit()

    def discard(self) -> None:
        self._draft.discard()


class StoredBytes(Sink[bytes]):
    """Collects an object in memory as it is stored."""

    def __init__(self, key: ContentKey, path: str) -> None:
        self._key = key
        self._path = path
        self._parts: list[bytes] = []

    def write(self, data: bytes, /) -> None:
        self._parts.append(data)

    def finish(self) -> bytes:
        stored = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        got = self._key.digest.algorithm.digest(stored)
        if got != self._key.digest:
            raise DigestMismatchError(
                expected=str(self._key.digest), got=str(got), source=self._path
            )
        return bytes(stored)

    def discard(self) -> None:
        self._parts.clear()


class SmallObject(Sink[Content]):
    """Collects a small object in memory, and puts its content into the cache at once."""

    def __init__(
        self, cache: Cache, key: ContentKey, path: str, size_bytes: int, rank: Rank
    ) -> None:
        self._cache = cache
        self._key = key
        self._size_bytes = size_bytes
        self._path = path
        self._rank = rank
        self._stored = StoredBytes(key, path)

    def write(self, data: bytes, /) -> None:
        self._stored.write(data)

    def finish(self) -> Content:
        stored = self._stored.finish()
        try:
            data = content_of(self._key, stored, self._size_bytes, self._size_bytes)
        except ObjectFormatError as error:
            raise ObjectFormatError(error.reason, where=self._path) from None
        return self._cache.put_small(self._key, data, rank=self._rank)

    def discard(self) -> None:
        self._stored.discard()


def content_of(key: ContentKey, stored: bytes, size_bytes: int | None, limit_bytes: int) -> bytes:
    """The content of a verified object. Errors: `ObjectFormatError`, also for another size than its catalog says."""
    is_plain = key.compression is Compression.NONE
    data = stored if is_plain else inflate(stored, limit_bytes=limit_bytes)
    if size_bytes not in (None, len(data)):
        raise _wrong_size(len(data), size_bytes, str(key.digest))
    return data


def _wrong_size(got_bytes: int, size_bytes: int | None, where: str) -> ObjectFormatError:
    return ObjectFormatError(
        f"it holds {got_bytes} bytes, its catalog says {size_bytes}", where=where
    )
