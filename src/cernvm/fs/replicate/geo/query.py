"""What the Geo-API is asked, and the order that it answers. Pure.

Source: docs/formats/geo.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from cernvm.core.errors import InvalidInputError
from cernvm.net.geo import SEPARATOR

MAX_SERVERS = 100
_HOST = re.compile(r"[0-9A-Za-z.:_-]{1,255}")
_PATH = re.compile(
    r"/cvmfs/(?P<name>[a-z0-9.-]{1,255})/api/v1\.0/geo/(?P<client>[^/]{1,600})/(?P<servers>[^/]{1,8000})"
)

# How far a host is from another; None where nobody knows.
Distance = Callable[[str], float | None]


@dataclass(frozen=True, slots=True)
class GeoQuery:
    """Who asks for the order of which hosts. Shape: `client` is a proxy's name, or any word; `proxies` may be empty."""

    client: str
    hosts: tuple[str, ...]
    proxies: tuple[str, ...] = ()
    has_separator: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A place on earth, in degrees."""

    latitude: float
    longitude: float

    def distance(self, other: Place) -> float:
        """The angle between two places, in radians."""
        one, two = math.radians(self.latitude), math.radians(other.latitude)
        across = math.radians(other.longitude - self.longitude)
        half = (
            math.sin((two - one) / 2) ** 2
            + math.cos(one) * math.cos(two) * math.sin(across / 2) ** 2
        )
        return 2 * math.asin(math.sqrt(min(1.0, half)))


def parse_geo_path(path: str) -> GeoQuery | None:
    """The query in the path of a URL; None for another path, `InvalidInputError` for a query that is none."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    servers = unquote(match["servers"]).split(",")
    client = unquote(match["client"])
    if len(servers) > MAX_SERVERS:
        raise InvalidInputError(f"more than {MAX_SERVERS} servers cannot be sorted")
    has_separator = SEPARATOR in servers
    end = servers.index(SEPARATOR) if has_separator else len(servers)
    hosts, proxies = servers[:end], servers[end + 1 :]
    if not hosts or not all(_HOST.fullmatch(host) for host in (*hosts, *proxies)):
        raise InvalidInputError("these are no names of servers")
    return GeoQuery(client, tuple(hosts), tuple(proxies), has_separator)


def is_host(text: str) -> bool:
    """Whether a text may be a host's name or address."""
    return _HOST.fullmatch(text) is not None


def nearest(hosts: Sequence[str], distance: Distance) -> list[int]:
    """The hosts' positions, the nearest first; those of which nothing is known last, as they came."""
    known = [distance(host) for host in hosts]
    far = [math.inf if one is None else one for one in known]
    return sorted(range(len(hosts)), key=far.__getitem__)


def format_order(query: GeoQuery, hosts: Sequence[int], proxies: Sequence[int]) -> bytes:
    """The answer: every place of the query once, counted from 1; hosts, then proxies, then the separator."""
    start = len(query.hosts) + 1
    order = [*hosts, *(start + proxy for proxy in proxies)]
    if query.has_separator:
        order.append(start - 1)
    return (",".join(str(place + 1) for place in order) + "\n").encode()
