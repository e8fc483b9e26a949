"""An exchange over documents in memory, with the faults that mirrors have."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeadlineError, HostError
from cernvm.net.connection import UnconnectedError
from cernvm.net.failover import Route
from cernvm.net.link import Link
from cernvm.net.terms import PLAIN, Terms


class Fault(Enum):
    """What goes wrong with an answer."""

    REFUSED = "refused"  # no connection
    SILENT = "silent"  # a connection and nothing more
    CUT = "cut"  # half of the body, then the end
    BROKEN = "broken"  # HTTP 500
    FLIPPED = "flipped"  # one bit of the body is wrong
    STALE = "stale"  # FLIPPED unless asked for past all caches


@dataclass(slots=True)
class MemoryExchange:
    """Mirrors as mappings from path to body; `faults` by (host, path), or (host, "") for all paths of a host.

    Shape: `documents[host][path]`; `requests` is every (route, path, no_cache) that was asked for, in order.
    """

    documents: dict[str, dict[str, bytes]]
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    requests: list[tuple[Route, str, bool]] = field(default_factory=list)
    stall_s: float = 10.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def get(
        self, route: Route, path: str, *, deadline: Deadline, terms: Terms = PLAIN
    ) -> Iterator[MemoryAnswer]:
        with self._lock:
            self.requests.append((route, path, terms.no_cache))
        url = f"{route.host}/{path}"
        fault = self.faults.get((route.host, path)) or self.faults.get((route.host, ""))
        if fault is Fault.REFUSED or route.host not in self.documents:
            raise HostError(url, "connection refused") from UnconnectedError(
                "refused", is_late=False
            )
        if fault is Fault.SILENT:
            deadline.clock.sleep(min(self.stall_s, deadline.remaining_s))
            raise DeadlineError(f"waiting for {url}", after_s=self.stall_s)
        body = self.documents[route.host].get(path)
        if fault is Fault.BROKEN or body is None:
            yield MemoryAnswer(url, 500 if fault is Fault.BROKEN else 404, b"")
        elif fault is Fault.FLIPPED or (fault is Fault.STALE and not terms.no_cache):
            yield MemoryAnswer(url, 200, _flip(body))
        else:
            yield MemoryAnswer(url, 200, body, is_cut=fault is Fault.CUT).ranged(terms.byte_range)

    def get_many(
        self, route: Route, paths: Sequence[str], *, deadline: Deadline
    ) -> Generator[MemoryAnswer | HostError | DeadlineError, None, None]:
        for path in paths:
            try:
                with self.get(route, path, deadline=deadline) as answer:
                    yield answer
            except (HostError, DeadlineError) as error:
                yield error

    @property
    def link(self) -> Link:
        """Memory has no link to measure."""
        return Link()

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class MemoryAnswer:
    """One answer from memory."""

    url: str
    status: int
    body: bytes
    is_cut: bool = False
    content_range: str = ""

    @property
    def headers(self) -> Mapping[str, str]:
        headers = {"content-length": str(len(self.body))}
        return headers | {"content-range": self.content_range} if self.content_range else headers

    def ranged(self, wanted: tuple[int, int] | None) -> MemoryAnswer:
        """Only the bytes that were asked for, if some were."""
        if wanted is None:
            return self
        first, last = wanted[0], min(wanted[1], len(self.body) - 1)
        if first > last:
            return MemoryAnswer(self.url, 416, b"")
        text = f"bytes {first}-{last}/{len(self.body)}"
        return MemoryAnswer(self.url, 206, self.body[first : last + 1], self.is_cut, text)

    def parts(self) -> Iterator[bytes]:
        if self.is_cut:
            yield self.body[: len(self.body) // 2]
            raise HostError(self.url, f"the answer ended before its {len(self.body)} bytes")
        yield self.body


def _flip(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else b"\x01"
