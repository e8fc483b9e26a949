"""Verified, decompressed content on this machine: bounded by a quota, shared by mounts, safe against crashes.

Values: `ContentKey`, `Usage` (`port.py`), `Breadcrumb` (`breadcrumb.py`: the last revision that was seen). Port:
`Cache`; what comes in goes through a `Draft` and what comes out is a `Content`. Adapters: `DiskCache` (`disk.py`, with
its SQLite `index.py` and `owners.py`) and the twin `MemoryCache` (`memory.py`).
"""

from cernvm.fs.cache.breadcrumb import Breadcrumb, Breadcrumbs, DiskBreadcrumbs, MemoryBreadcrumbs
from cernvm.fs.cache.disk import DiskCache
from cernvm.fs.cache.memory import MemoryCache
from cernvm.fs.cache.port import Cache, Content, ContentKey, Draft, Rank, Usage
from cernvm.fs.cache.settings import (
    DEFAULT_QUOTA_BYTES,
    CacheSettings,
    open_breadcrumbs,
    open_cache,
)

__all__ = [
    "DEFAULT_QUOTA_BYTES",
    "Breadcrumb",
    "Breadcrumbs",
    "Cache",
    "CacheSettings",
    "Content",
    "ContentKey",
    "DiskBreadcrumbs",
    "DiskCache",
    "Draft",
    "MemoryBreadcrumbs",
    "MemoryCache",
    "Rank",
    "Usage",
    "open_breadcrumbs",
    "open_cache",
]
