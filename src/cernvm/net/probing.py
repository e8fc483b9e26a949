"""Mirrors in the order in which they answer: each is asked for one small document, all at the same time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError
from cernvm.net.failover import Route
from cernvm.net.port import Answer, Exchange

_AT_ONCE = 8
_PROBE_S = 5.0
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Probe:
    """How one mirror answered; `rtt_s` is None when it did not, and `error` says why."""

    host: str
    rtt_s: float | None
    error: str = ""


def probe_hosts(
    exchange: Exchange, hosts: tuple[str, ...], proxy: str, path: str, deadline: Deadline
) -> list[Probe]:
    """The mirrors by the time of their answer for `path`; those without one last, in the order they had."""
    limit = Deadline.after(min(_PROBE_S, deadline.remaining_s))
    with ThreadPoolExecutor(_AT_ONCE, "probe") as threads:
        probes = list(
            threads.map(lambda host: _probe(exchange, Route(host, proxy), path, limit), hosts)
        )
    return sorted(probes, key=lambda probe: (probe.rtt_s is None, probe.rtt_s or 0.0))


def _probe(exchange: Exchange, route: Route, path: str, limit: Deadline) -> Probe:
    times: list[float] = []
    try:
        for _ in range(2):  # the first has to make a connection
            started_s = time.monotonic()
            with exchange.get(route, path, deadline=limit) as answer:
                times.append(time.monotonic() - started_s)
                if answer.status != 200:
                    return Probe(route.host, None, f"HTTP {answer.status}")
                _read(answer)
    except CvmError as error:
        return Probe(route.host, None, str(error))
    return Probe(route.host, min(times))


def _read(answer: Answer) -> None:
    """Read the body, so that the connection stays of use, but not one without end."""
    received = 0
    for part in answer.parts():
        received += len(part)
        if received > _MOST_BYTES:
            return
