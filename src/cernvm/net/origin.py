"""Where connections go: what of a route makes two requests share one, worked out once for each. Pure."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from urllib.parse import urlsplit

from cernvm.net.failover import Route


@dataclass(frozen=True, slots=True)
class Origin:
    """Shape: `prefix` stands before a path in the request line: all of the URL for a proxy, else its path."""

    is_secure: bool
    host: str
    port: int
    authority: str
    prefix: str
    proxy: tuple[str, int] | None


@functools.lru_cache(maxsize=256)
def origin_of(route: Route) -> Origin:
    """Where to connect for `route`, and how its requests begin."""
    parts = urlsplit(route.host)
    is_secure = parts.scheme == "https"
    host = parts.hostname or ""
    proxy = None
    if route.via_proxy:
        hop = urlsplit(route.proxy)
        proxy = (hop.hostname or "", hop.port or 80)
    return Origin(
        is_secure,
        host,
        parts.port or (443 if is_secure else 80),
        parts.netloc,
        f"{route.host}/" if proxy and not is_secure else f"{parts.path}/",
        proxy,
    )
