"""Connections kept for the next request to the same place, and how new ones are made."""

from __future__ import annotations

import hashlib
import ssl
import threading
from dataclasses import replace

from cernvm.net.connection import Timing
from cernvm.net.origin import Origin
from cernvm.net.resolve import Resolver
from cernvm.net.secrets import client_context
from cernvm.net.terms import Credentials, Terms
from cernvm.net.wire import Wire

MAX_IDLE = 64
SPARE = 2  # of a place: who waits should not have to wait for a connection as well
MAX_CLIENTS = 64  # whose certificates are remembered

_LEAST_PATIENCE_S = 0.1


class Pool:
    """Concurrency: safe from any thread; a wire that was taken is its taker's."""

    def __init__(self, timing: Timing, proxy_timing: Timing, resolver: Resolver) -> None:
        self._timing = timing
        self._proxy_timing = proxy_timing
        self._resolver = resolver
        self._idle: dict[tuple[Origin, bytes], list[Wire]] = {}
        self._idle_count = 0
        self._is_closed = False
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._client_tls: dict[bytes, ssl.SSLContext] = {}

    def take_idle(self, origin: Origin, terms: Terms) -> Wire | None:
        """A kept connection on which nothing has happened since; its server may end it at any moment nevertheless."""
        key = (origin, _identity(terms.credentials))
        while True:
            with self._lock:
                idle = self._idle.get(key)
                if not idle or (terms.in_background and len(idle) <= SPARE):
                    return None
                wire = idle.pop()
                self._idle_count -= 1
            if not wire.has_ended:
                wire.watch.timing = self._timing_for(origin, terms)
                return wire
            wire.close()

    def new(self, origin: Origin, terms: Terms) -> Wire:
        """A connection still to be made. Errors: `InvalidInputError` for a client certificate that cannot be read."""
        host, port = origin.proxy or (origin.host, origin.port)
        timing = self._timing_for(origin, terms)
        if not origin.is_secure:
            return Wire(host, port, timing, self._resolver)
        tunnel_to = (origin.host, origin.port) if origin.proxy else None
        tls = self._context(terms.credentials)
        return Wire(host, port, timing, self._resolver, tls=tls, tunnel_to=tunnel_to)

    def give_back(self, origin: Origin, wire: Wire, terms: Terms) -> None:
        """Keep a connection whose last answer was read to its end."""
        with self._lock:
            has_room = self._idle_count < MAX_IDLE and not self._is_closed
            if has_room and not wire.has_leftovers:
                key = (origin, _identity(terms.credentials))
                self._idle.setdefault(key, []).append(wire)
                self._idle_count += 1
                return
        wire.close()

    def close(self) -> None:
        """Close what is kept, and keep nothing any more: a request that ends late has its connection closed."""
        with self._lock:
            self._is_closed = True
            idle = [wire for group in self._idle.values() for wire in group]
            self._idle.clear()
            self._client_tls.clear()
            self._idle_count = 0
        for wire in idle:
            wire.close()

    def _timing_for(self, origin: Origin, terms: Terms) -> Timing:
        timing = self._proxy_timing if origin.proxy else self._timing
        if terms.patience_s is None:
            return timing
        patience_s = max(terms.patience_s, _LEAST_PATIENCE_S)
        return replace(
            timing,
            connect_s=min(timing.connect_s, patience_s),
            stall_s=min(timing.stall_s, patience_s),
        )

    def _context(self, credentials: Credentials | None) -> ssl.SSLContext:
        if credentials is not None and credentials.certificate_pem:
            return self._client_context(credentials)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _client_context(self, credentials: Credentials) -> ssl.SSLContext:
        identity = _identity(credentials)
        known = self._client_tls.get(identity)
        if known is not None:
            return known
        made = client_context(credentials.certificate_pem)
        with self._lock:
            if len(self._client_tls) >= MAX_CLIENTS:
                self._client_tls.clear()
            self._client_tls[identity] = made
        return made


def _identity(credentials: Credentials | None) -> bytes:
    """Connections that were opened with a certificate are its owner's alone."""
    if credentials is None or not credentials.certificate_pem:
        return b""
    return hashlib.sha256(credentials.certificate_pem).digest()
