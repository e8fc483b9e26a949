"""What may be chosen about the cache, as plain values, and the cache made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cernvm.core.errors import InvalidInputError
from cernvm.fs.cache.alien import AlienCache
from cernvm.fs.cache.breadcrumb import Breadcrumbs, DiskBreadcrumbs
from cernvm.fs.cache.disk import DiskCache
from cernvm.fs.cache.memory import MemoryCache
from cernvm.fs.cache.port import Cache
from cernvm.fs.cache.tiered import TieredCache

DEFAULT_QUOTA_BYTES = 4_000_000_000
DEFAULT_MEMORY_BYTES = 256_000_000
KINDS = ("disk", "memory", "none")


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Where content is kept and how much of it.

    `folder` is this user's own: content when `kind` is `disk`, always the breadcrumbs. `alien` names a further cache
    folder, another user's, the original client's or one on a network share, which is asked before any server; with
    `alien_writes` what is fetched goes there too. `kind` `none` keeps content only there.
    """

    folder: Path
    quota_bytes: int = DEFAULT_QUOTA_BYTES  # -1: as much as the partition has
    kind: str = "disk"
    alien: Path | None = None
    alien_writes: bool = False
    # Others of this machine may read the content (never write it), naming the folder as their alien cache.
    is_readable_by_all: bool = False
    # What is left free on the partition for others; None: 2 %, at most 1 GB.
    free_floor_bytes: int | None = None


def open_cache(settings: CacheSettings) -> Cache:
    """The cache; the caller closes it.

    Errors: `SpaceError` when it cannot be used, `DeniedError` when others could forge its content,
    `InvalidInputError` for settings that make no cache.
    """
    if settings.kind not in KINDS:
        raise InvalidInputError(
            f"{settings.kind!r} is no kind of cache", advice=f"choose one of {', '.join(KINDS)}"
        )
    if settings.kind == "none" and not (settings.alien and settings.alien_writes):
        raise InvalidInputError(
            "a client needs a place for what it fetches",
            advice="name an alien cache that may be written, or keep content on disk or in memory",
        )
    alien = AlienCache(settings.alien, writes=settings.alien_writes) if settings.alien else None
    if settings.kind == "none" and alien is not None:
        return alien
    try:
        upper = _open_upper(settings)
    except BaseException:
        if alien is not None:
            alien.close()
        raise
    return TieredCache(upper, alien, writes_lower=settings.alien_writes) if alien else upper


def _open_upper(settings: CacheSettings) -> Cache:
    if settings.kind == "memory":
        quota_bytes = settings.quota_bytes if settings.quota_bytes >= 0 else DEFAULT_MEMORY_BYTES
        return MemoryCache(quota_bytes=quota_bytes)
    return DiskCache(
        settings.folder,
        quota_bytes=settings.quota_bytes,
        is_readable_by_all=settings.is_readable_by_all,
        free_floor_bytes=settings.free_floor_bytes,
    )


def open_breadcrumbs(settings: CacheSettings) -> Breadcrumbs:
    """Where the last revisions that were seen are noted."""
    return DiskBreadcrumbs(settings.folder)
