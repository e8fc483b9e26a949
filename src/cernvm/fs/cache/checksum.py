"""The checksum of content as it lies in the cache, by which a rotten file is found out.

The name of content cannot serve for that: it is the digest of the stored, compressed bytes.
Source: docs/formats/cache.md, "Checksums".
"""

from __future__ import annotations

import hashlib

from cernvm.fs.cache.port import Content

CHECKSUM_BYTES = 16
_PIECE_BYTES = 1 << 20


class Summer:
    """A checksum that grows with the content."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256(usedforsecurity=False)
        self.update = self._hasher.update

    def finish(self) -> bytes:
        """The checksum of all that it was given."""
        return self._hasher.digest()[:CHECKSUM_BYTES]


def checksum(data: bytes) -> bytes:
    """The checksum of content that is in memory."""
    return hashlib.sha256(data, usedforsecurity=False).digest()[:CHECKSUM_BYTES]


def checksum_of(content: Content) -> bytes:
    """The checksum of content as it can be read now. Errors: `HostError` when the disk fails."""
    summer = Summer()
    for offset in range(0, content.size_bytes, _PIECE_BYTES):
        summer.update(content.pread(offset, _PIECE_BYTES))
    return summer.finish()
