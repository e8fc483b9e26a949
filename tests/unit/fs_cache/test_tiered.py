"""A lower cache whose disk fails harms nobody."""

from cernvm.core.digest import Algorithm
from cernvm.core.errors import HostError
from cernvm.fs.cache import ContentKey, MemoryCache, TieredCache

KEY = ContentKey(Algorithm.SHA1.digest(b"content"))


class Broken:
    """Content on a disk, or a share, that has gone away."""

    size_bytes = 7
    path = None

    def pread(self, offset, size_bytes):
        raise HostError("/shared", "the cache's disk failed")

    def duplicate(self):
        return None


class BrokenCache(MemoryCache):
    def open(self, key):
        return Broken()


def test_content_that_cannot_be_lifted_is_not_there():
    cache = TieredCache(MemoryCache(), BrokenCache(), writes_lower=False)

    assert cache.open(KEY) is None
    cache.put_small(KEY, b"content")
    assert cache.open(KEY).pread(0, 7) == b"content"
