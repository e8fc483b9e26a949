"""The exchange over real HTTP/1.1: connections kept alive, at most so many at once, no wait without an end.

Redirects, retries and fail-over are not its business. Source: docs/decisions/every-receive-is-bounded.md.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeadlineError, HostError
from cernvm.net.asking import STALE, HttpAnswer, host_errors, request
from cernvm.net.connection import Timing
from cernvm.net.failover import Route
from cernvm.net.lanes import MAX_BACKGROUND, MAX_CONNECTIONS, Lanes
from cernvm.net.link import Link
from cernvm.net.origin import Origin, origin_of
from cernvm.net.pipeline import Pipelines
from cernvm.net.pool import Pool
from cernvm.net.resolve import Resolver
from cernvm.net.terms import PLAIN, Terms, Urgency
from cernvm.net.wire import EndedError, Wire

_AHEAD = Terms(Urgency.BACKGROUND)


class HttpExchange:
    """GETs over HTTP and HTTPS (system CAs), through a proxy where the route names one."""

    def __init__(
        self,
        *,
        timing: Timing | None = None,
        proxy_timing: Timing | None = None,
        max_connections: int = MAX_CONNECTIONS,
        max_background: int = MAX_BACKGROUND,
        resolver: Resolver | None = None,
    ) -> None:
        direct = timing or Timing()
        self._lanes = Lanes(max_connections, max_background)
        self._pool = Pool(direct, proxy_timing or direct, resolver or Resolver())
        self._pipelines = Pipelines(self._pool, self._lanes)

    @contextmanager
    def get(
        self, route: Route, path: str, *, deadline: Deadline, terms: Terms = PLAIN
    ) -> Iterator[HttpAnswer]:
        origin = origin_of(route)
        sent = request(origin, path, terms)
        url = f"{route.host}/{path}"
        with self._lanes.lane(terms, deadline) as is_mine:
            if not is_mine:
                raise _no_lane(url, deadline)
            wire, answer = self._ask(origin, url, sent, terms, deadline)
            try:
                yield answer
            finally:
                if answer.leaves_wire_usable:
                    self._pool.give_back(origin, wire, terms)
                else:
                    wire.close()

    def get_many(
        self, route: Route, paths: Sequence[str], *, deadline: Deadline
    ) -> Generator[HttpAnswer | HostError | DeadlineError, None, None]:
        with self._lanes.lane(_AHEAD, deadline) as is_mine:
            if not is_mine:
                yield from (_no_lane(f"{route.host}/{path}", deadline) for path in paths)
                return
            yield from self._pipelines.answers(route, paths, _AHEAD, deadline)

    @property
    def link(self) -> Link:
        return self._lanes.link

    def close(self) -> None:
        self._pool.close()

    def _ask(
        self, origin: Origin, url: str, sent: bytes, terms: Terms, deadline: Deadline
    ) -> tuple[Wire, HttpAnswer]:
        """Send the request on an idle connection; a server may just then have closed it, so a new one follows."""
        idle = self._pool.take_idle(origin, terms)
        if idle is not None:
            idle.watch.begin(deadline)
            with (
                suppress(EndedError, *STALE),
                host_errors(url, idle, lets_out=(EndedError, *STALE)),
            ):
                return idle, self._ask_on(idle, url, sent, terms, deadline)
        wire = self._pool.new(origin, terms)
        with host_errors(url, wire):
            wire.connect(deadline)
            return wire, self._ask_on(wire, url, sent, terms, deadline)

    def _ask_on(
        self, wire: Wire, url: str, sent: bytes, terms: Terms, deadline: Deadline
    ) -> HttpAnswer:
        sent_s = time.monotonic()
        wire.send(sent)
        head = wire.receive_head()
        self._lanes.waited(time.monotonic() - sent_s)
        return HttpAnswer(url, wire, head, self._lanes, terms, deadline)


def _no_lane(url: str, deadline: Deadline) -> DeadlineError:
    return DeadlineError(f"waiting for a free connection to {url}", after_s=deadline.budget_s)
