"""The Geo-API's answers: whoever asks is somewhere, and so are the servers; without a database, as it is from here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cernvm.core.errors import InvalidInputError
from cernvm.fs.replicate.geo.atlas import Addresses, GeoIpPlaces, Places, RoundTrips
from cernvm.fs.replicate.geo.query import (
    GeoQuery,
    Place,
    format_order,
    is_host,
    nearest,
    parse_geo_path,
)

MAX_AGE_S = 300


class GeoApi:
    """Answers queries. Concurrency: safe from any thread; `close` ends its threads."""

    def __init__(self, places: Places | None, round_trips: RoundTrips) -> None:
        self._places = places
        self._round_trips = round_trips
        self._addresses = Addresses()

    def answer(self, path: str, *, address: str, forwarded_for: str = "") -> bytes | None:
        """The order that the path of a URL asks for; None for a path that asks for none.

        Shape: `address` is the connection's, `forwarded_for` the header of that name. Errors: `InvalidInputError` for a
        query that is none, or where nothing is known of any server.
        """
        query = parse_geo_path(path)
        if query is None:
            return None
        answer = self._by_place(query, address, forwarded_for) if self._places else None
        return answer or self._by_round_trip(query)

    def close(self) -> None:
        """End its threads."""
        self._addresses.close()
        if isinstance(self._places, GeoIpPlaces):
            self._places.close()

    def _by_place(self, query: GeoQuery, address: str, forwarded_for: str) -> bytes | None:
        """Sorted by distance from who asks, or, with fallback proxies, from the nearest of them; None if unknown."""
        client = query.client if "." in query.client and is_host(query.client) else ""
        names = [name for name in (client, *query.hosts, *query.proxies) if name]
        found = self._addresses.find(names)
        placed = {name: self._place(found.get(name)) for name in names}
        last_proxy = forwarded_for.rpartition(",")[2].strip()
        here = (
            (placed.get(client) if client else None)
            or self._place(last_proxy)
            or self._place(address)
        )
        if here is None or not any(placed[host] for host in query.hosts):
            return None
        proxies = nearest(query.proxies, lambda name: _apart(here, placed[name]))
        if proxies:
            here = placed[query.proxies[proxies[0]]] or here
        hosts = nearest(query.hosts, lambda name: _apart(here, placed[name]))
        return format_order(query, hosts, proxies)

    def _by_round_trip(self, query: GeoQuery) -> bytes:
        if not any(self._round_trips.find(host) is not None for host in query.hosts):
            raise InvalidInputError("nothing is known of these servers")
        hosts = nearest(query.hosts, self._round_trips.find)
        return format_order(query, hosts, nearest(query.proxies, self._round_trips.find))

    def _place(self, address: str | None) -> Place | None:
        if not address or self._places is None:
            return None
        return self._places.find(address)


def open_geo_api(database: Path | None, urls: Iterable[str]) -> GeoApi:
    """The Geo-API over a database, if one is given, and the servers at some URLs."""
    return GeoApi(None if database is None else GeoIpPlaces(database), RoundTrips(urls))


def _apart(here: Place | None, there: Place | None) -> float | None:
    return None if here is None or there is None else here.distance(there)
