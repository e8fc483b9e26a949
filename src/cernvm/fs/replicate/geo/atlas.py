"""Where hosts are: by a GeoIP database, or by the time that it takes to reach them from here.

Anybody may ask for the order of any hosts. So names are resolved by a few threads with a deadline, and only hosts that
this machine's keeper has named are ever connected to.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from cernvm.core.clock import Deadline
from cernvm.core.errors import ConfigError, CvmError, NotFoundError, PrerequisiteError
from cernvm.core.log import fields
from cernvm.fs.replicate.geo.query import Place, is_host
from cernvm.net.resolve import Resolver

log = logging.getLogger(__name__)

KEEP_S = 300.0
MAX_KEPT = 10_000
_RESOLVE_S = 3.0
_THREADS = 8
_CONNECT_S = 2.0
_MEASURE_EVERY_S = 600.0


class Places(Protocol):
    """Where an address is."""

    def find(self, address: str) -> Place | None:
        """The place of an address; None where nobody knows."""


class GeoIpPlaces:
    """A MaxMind database file, opened again when it was replaced."""

    def __init__(self, path: Path) -> None:
        try:
            import maxminddb  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415  # optional
        except ImportError:
            raise PrerequisiteError(
                "a GeoIP database needs the Python module maxminddb",
                advice="install it: pip install 'cernvm[geoip]'",
            ) from None
        self._module: Any = maxminddb
        self._path = path
        self._lock = threading.Lock()
        self._checked_at = time.monotonic()
        self._opened = self._open()

    def find(self, address: str) -> Place | None:
        with self._lock:
            if time.monotonic() - self._checked_at > KEEP_S:
                self._checked_at = time.monotonic()
                self._renew()
            reader = self._opened[1]
            try:
                found = reader.get(address)
            except (ValueError, self._module.InvalidDatabaseError):
                return None
        location = found.get("location") if isinstance(found, dict) else None
        if not isinstance(location, dict):
            return None
        latitude, longitude = location.get("latitude"), location.get("longitude")
        if not isinstance(latitude, float | int) or not isinstance(longitude, float | int):
            return None
        return Place(float(latitude), float(longitude))

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._opened[1].close()

    def _open(self) -> tuple[tuple[int, int], Any]:
        try:
            status = os.stat(self._path)
            # in memory: a file that is replaced under a mapping would end the process
            reader = self._module.open_database(str(self._path), self._module.MODE_MEMORY)
        except FileNotFoundError:
            raise NotFoundError("GeoIP database", str(self._path)) from None
        except (OSError, self._module.InvalidDatabaseError) as error:
            raise ConfigError(f"it is no GeoIP database: {error}", source=str(self._path)) from None
        return (status.st_mtime_ns, status.st_ino), reader

    def _renew(self) -> None:
        with suppress(OSError, CvmError):  # the one that is open is good enough
            status = os.stat(self._path)
            if (status.st_mtime_ns, status.st_ino) != self._opened[0]:
                old, self._opened = self._opened[1], self._open()
                old.close()


class Addresses:
    """The address of a name, remembered for a while; asked for by a few threads, with a deadline."""

    def __init__(self, resolver: Resolver | None = None) -> None:
        self._resolver = resolver or Resolver()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="geo")
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Future[str]]] = OrderedDict()

    def find(self, names: Sequence[str]) -> dict[str, str]:
        """The addresses of those names that have one, all within the same few seconds."""
        deadline = Deadline.after(_RESOLVE_S)
        asked = {name: self._asked(name) for name in dict.fromkeys(names)}
        found = {}
        for name, future in asked.items():
            with suppress(TimeoutError, CvmError, OSError):
                found[name] = future.result(deadline.remaining_s)
        return found

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _asked(self, name: str) -> Future[str]:
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None and now - kept[0] < KEEP_S:
                return kept[1]
            future = self._threads.submit(self._resolve, name)
            self._kept[name] = (now, future)
            self._kept.move_to_end(name)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
            return future

    def _resolve(self, name: str) -> str:
        with suppress(ValueError):
            return str(ipaddress.ip_address(name.strip("[]")))
        found = self._resolver.addresses(name, 80, Deadline.after(_RESOLVE_S))
        # what databases know best
        first = min(found, key=lambda one: one[0] != socket.AF_INET)
        return str(first[1][0])


class RoundTrips:
    """How long it takes to connect to the servers that were named, measured in the background now and then."""

    def __init__(self, urls: Iterable[str]) -> None:
        split = [urlsplit(url) for url in urls]
        self._servers = {
            part.hostname: part.port or (443 if part.scheme == "https" else 80)
            for part in split
            if part.hostname and is_host(part.hostname)
        }
        self._lock = threading.Lock()
        self._measured: dict[str, float] = {}
        self._measured_at = 0.0
        self._is_measuring = False

    def find(self, name: str) -> float | None:
        """Seconds to a server; None for one that is unknown, silent or not measured yet."""
        with self._lock:
            is_old = (
                time.monotonic() - self._measured_at > _MEASURE_EVERY_S or not self._measured_at
            )
            if is_old and not self._is_measuring and self._servers:
                self._is_measuring = True
                threading.Thread(target=self.measure, name="round trips", daemon=True).start()
            return self._measured.get(name)

    def measure(self) -> None:
        """Measure all servers, one after the other."""
        measured = {}
        for name, port in self._servers.items():
            times = [took for _ in range(3) if (took := _connect_s(name, port)) is not None]
            if times:
                measured[name] = min(times)
        with self._lock:
            self._measured, self._measured_at = measured, time.monotonic()
            self._is_measuring = False
        log.info("geo.measured", extra=fields(servers=len(measured)))


def _connect_s(name: str, port: int) -> float | None:
    begin = time.monotonic()
    try:
        with socket.create_connection((name, port), _CONNECT_S):
            return time.monotonic() - begin
    except OSError:
        return None
