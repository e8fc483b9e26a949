"""What digest the cached copy of a file would have as a stored object: another way to see whether it rotted."""

from __future__ import annotations

import zlib

from cernvm.fs.cache import ContentKey
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import Entry
from cernvm.fs.reader import ObjectSource

_PART_BYTES = 1 << 20


def digest_of_cached(objects: ObjectSource, entry: Entry) -> str | None:
    """The digest of the cached content of a file, compressed again if it was; None where it is not in the cache.

    It differs for sound content too where its publisher compressed by another library.
    """
    assert entry.digest is not None
    content = objects.cached(ContentKey(entry.digest, entry.compression), entry.size)
    if content is None and entry.size:  # nothing is at hand without a cache too
        return None
    algorithm = entry.digest.algorithm
    hasher = algorithm.hasher()
    packer = zlib.compressobj() if entry.compression is Compression.ZLIB else None
    for offset in range(0, entry.size, _PART_BYTES):
        part = content.pread(offset, _PART_BYTES) if content else b""
        hasher.update(packer.compress(part) if packer else part)
    if packer:
        hasher.update(packer.flush())
    return str(algorithm.finish(hasher))
