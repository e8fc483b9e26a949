"""What a server has beside the repositories made here: replicas passed through, the Geo-API, pages about itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cernvm.core.home import Home
from cernvm.fs.publish.serving import Asked
from cernvm.fs.replicate.geo.answering import MAX_AGE_S, GeoApi, open_geo_api
from cernvm.fs.replicate.replica import known_replicas
from cernvm.fs.replicate.status import Document, Documents
from cernvm.fs.replicate.through.record import (
    is_pass_through,
    known_pass_throughs,
    read_pass_through,
)
from cernvm.fs.replicate.through.store import ThroughStore, open_through


class Extras:
    """Answers for `RepositoryServer`. Concurrency: safe from any thread."""

    def __init__(self, home: Home, geo: GeoApi) -> None:
        self._home = home
        self._geo = geo
        self._documents = Documents(home)
        self._lock = threading.Lock()
        self._stores: dict[str, ThroughStore] = {}

    def opened(self, name: str) -> ThroughStore | None:
        """The store of what is passed through under a name; None for another name."""
        with self._lock:
            if not is_pass_through(self._home, name):
                self._stores.pop(name, None)
                return None
            if name not in self._stores:
                self._stores[name] = open_through(read_pass_through(self._home, name))
            return self._stores[name]

    def __call__(self, asked: Asked) -> Document | None:
        """What there is for a path that is no file of a repository."""
        order = self._geo.answer(
            asked.path, address=asked.address, forwarded_for=asked.forwarded_for
        )
        if order is not None:
            return Document(order, "text/plain", MAX_AGE_S)
        return self._documents(asked.path)


@contextmanager
def open_extras(home: Home, geoip: Path | None) -> Iterator[Extras]:
    """The extras of a home, with a GeoIP database if one is given; their threads end with the block."""
    urls = [url for one in known_replicas(home) for url in one.urls]
    urls += [url for one in known_pass_throughs(home) for url in one.urls]
    geo = open_geo_api(geoip, urls)
    try:
        yield Extras(home, geo)
    finally:
        geo.close()
