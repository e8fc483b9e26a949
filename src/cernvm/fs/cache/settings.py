"""What may be chosen about the cache, as plain values, and the cache made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cernvm.fs.cache.breadcrumb import Breadcrumbs, DiskBreadcrumbs
from cernvm.fs.cache.disk import DiskCache
from cernvm.fs.cache.port import Cache

DEFAULT_QUOTA_BYTES = 4_000_000_000


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Where content is kept and how much of it."""

    folder: Path
    quota_bytes: int = DEFAULT_QUOTA_BYTES


def open_cache(settings: CacheSettings) -> Cache:
    """The cache; the caller closes it. Errors: `SpaceError` when it cannot be used."""
    return DiskCache(settings.folder, quota_bytes=settings.quota_bytes)


def open_breadcrumbs(settings: CacheSettings) -> Breadcrumbs:
    """Where the last revisions that were seen are noted."""
    return DiskBreadcrumbs(settings.folder)
