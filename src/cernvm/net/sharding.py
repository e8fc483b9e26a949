"""Which proxy of a group keeps an object: consistent hashing, so that the caches of a group add up.

Each proxy has 16 points on a ring of 32 bits, and an object belongs to the next point from its own hash on. When a
proxy burns, only its own objects move. The points are those of all clients of CernVM-FS, so that these agree with
each other.
Source: docs/formats/fetching.md.
"""

from __future__ import annotations

import functools
import hashlib
import re
from bisect import bisect_left

POINTS_PER_PROXY = 16

_RING = 0xFFFF_FFFF
_OBJECT = re.compile(r"(?:^|/)data/([0-9a-f]{2})/([0-9a-f]{6})")


def shard_key(path: str) -> int:
    """The first 32 bits of the hash that an object's path names; 0 for what is no object.

    >>> hex(shard_key("data/ab/cdef0123456789"))
    '0xabcdef01'
    """
    found = _OBJECT.search(path)
    return int(found[1] + found[2], 16) if found else 0


def choose(proxies: tuple[str, ...], key: int) -> str:
    """The proxy of `proxies` that keeps the object with this key."""
    points, owners = _ring(proxies)
    return owners[bisect_left(points, key) % len(points)]


@functools.lru_cache(maxsize=64)
def _ring(proxies: tuple[str, ...]) -> tuple[list[int], list[str]]:
    placed: dict[int, str] = {}
    for proxy in sorted(proxies):
        for point in points_of(proxy):
            placed.setdefault(point, proxy)
    points = sorted(placed)
    return points, [placed[point] for point in points]


def points_of(proxy: str) -> list[int]:
    """The points of one proxy, from a linear congruential generator seeded with its URL's SHA-1."""
    state = int.from_bytes(hashlib.sha1(proxy.encode()).digest()[:4], "big")
    points = []
    for _ in range(POINTS_PER_PROXY):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        points.append(int(float(state) * float(_RING) / float(1 << 64)) % _RING)
    return points
