"""How much the cache may hold: its quota, and never so much that its partition runs full.

Source: docs/formats/cache.md, "Quota".
"""

from __future__ import annotations

import os
from dataclasses import dataclass

NO_QUOTA = -1

_FLOOR_PART = 50  # a fiftieth of the partition is left to others
_MAX_FLOOR_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Above `limit_bytes` content is evicted until `target_bytes` are left."""

    limit_bytes: int
    target_bytes: int


def limits(
    quota_bytes: int, *, used_bytes: int, partition: os.statvfs_result, floor_bytes: int | None
) -> Limits:
    """What holds now, given what the cache takes and what its partition has left.

    Down to half of the quota, so that evicting is rare; where others fill the partition, only what it takes.
    """
    total_bytes = partition.f_blocks * partition.f_frsize
    free_bytes = partition.f_bavail * partition.f_frsize
    if floor_bytes is None:
        floor_bytes = min(total_bytes // _FLOOR_PART, _MAX_FLOOR_BYTES)
    room_bytes = max(0, used_bytes + free_bytes - floor_bytes)
    if 0 <= quota_bytes <= room_bytes:
        return Limits(quota_bytes, quota_bytes // 2)
    return Limits(room_bytes, room_bytes - room_bytes // 8)
