"""Verified, decompressed content on this machine: bounded by a quota, shared by mounts, safe against crashes.

Values: `ContentKey`, `Rank`, `Usage` (`port.py`), `Breadcrumb` (`breadcrumb.py`: the last revision that was seen).
Port: `Cache`; what comes in goes through a `Draft`, or small and whole through `put_small`; what comes out is a
`Content`. Adapters: `DiskCache` (`disk.py`), the twin `MemoryCache` (`memory.py`), `AlienCache` (`alien.py`: a folder
that others fill too), `TieredCache` (`tiered.py`: one above another); `open_cache` (`settings.py`) puts one together.
Below `DiskCache`: `folder.py` (the files), `index.py` (the SQLite summary of them), `opening.py` and `owners.py` (who
uses it, who crashed), `ledger.py` (what the index has not heard yet), `behind.py` (small content on its way to the
disk), `accounts.py` and `quota.py` (how much, and what goes), `checksum.py` and `checking.py`.
"""

from cernvm.fs.cache.alien import AlienCache
from cernvm.fs.cache.breadcrumb import Breadcrumb, Breadcrumbs, DiskBreadcrumbs, MemoryBreadcrumbs
from cernvm.fs.cache.disk import DiskCache
from cernvm.fs.cache.memory import MemoryCache
from cernvm.fs.cache.port import Cache, Content, ContentKey, Draft, Rank, Usage
from cernvm.fs.cache.quota import NO_QUOTA
from cernvm.fs.cache.settings import (
    DEFAULT_QUOTA_BYTES,
    CacheSettings,
    open_breadcrumbs,
    open_cache,
)
from cernvm.fs.cache.tiered import TieredCache

__all__ = [
    "DEFAULT_QUOTA_BYTES",
    "NO_QUOTA",
    "AlienCache",
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
    "TieredCache",
    "Usage",
    "open_breadcrumbs",
    "open_cache",
]
