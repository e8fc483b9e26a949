"""Which route next, given how the last one ended: the rules of mirrors and proxies as a pure state machine.

A `Standing` is what all requests share (the mirror and proxy that work now, and since when the first choice was left);
a `Journey` is one request's way through the chain. Each mirror is tried once per request, each proxy once per mirror.
The rules are those that users of CernVM-FS know: strict order, sticky choice, return to the first choice after a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from cernvm.net.chain import DIRECT, Chain

HOST_RESET_AFTER_S = 1800.0
PROXY_RESET_AFTER_S = 300.0

_HOST_ERRORS = frozenset({400, 404})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Outcome(Enum):
    """How a route failed."""

    HOST = "host"  # the mirror answered, and badly
    PROXY = "proxy"  # the proxy did, or could not reach the mirror
    BROKEN = "broken"  # no connection, or it broke: worth one more try on the same route
    STALLED = "stalled"  # connected and silent or too slow: a second try would cost as long again
    REFUSED = "refused"  # a complete answer whose content is not what was asked for


@dataclass(frozen=True, slots=True)
class Route:
    """One mirror, through one proxy or `DIRECT`."""

    host: str
    proxy: str

    @property
    def via_proxy(self) -> bool:
        """Whether a proxy stands between."""
        return self.proxy != DIRECT


@dataclass(frozen=True, slots=True)
class Journey:
    """One request's way through the chain; the indices are the route that it takes now."""

    chain: Chain
    host: int
    group: int
    member: int
    failed_hosts: frozenset[int] = frozenset()
    burned_proxies: frozenset[tuple[int, int]] = frozenset()
    repeated: bool = False
    no_cache: bool = False

    @property
    def route(self) -> Route:
        """Where to ask now."""
        return Route(self.chain.hosts[self.host], self.chain.proxy_groups[self.group][self.member])

    def after(self, outcome: Outcome) -> Journey | None:
        """The journey's next step; None when every mirror was tried."""
        if outcome is Outcome.BROKEN and not self.repeated:
            return replace(self, repeated=True)
        if outcome is Outcome.REFUSED and not self.no_cache:
            return replace(self, no_cache=True, repeated=False)
        blames_proxy = outcome in (Outcome.PROXY, Outcome.BROKEN, Outcome.STALLED)
        if blames_proxy and self.route.via_proxy:
            return self._next_proxy()
        return self._next_host(self.burned_proxies)

    def _next_proxy(self) -> Journey | None:
        burned = self.burned_proxies | {(self.group, self.member)}
        groups = self.chain.proxy_groups
        for step in range(len(groups)):
            group = (self.group + step) % len(groups)
            for member in range(len(groups[group])):
                if (group, member) not in burned:
                    return replace(
                        self, group=group, member=member, burned_proxies=burned, repeated=False
                    )
        return self._next_host(burned)

    def _next_host(self, burned: frozenset[tuple[int, int]]) -> Journey | None:
        failed = self.failed_hosts | {self.host}
        count = len(self.chain.hosts)
        for step in range(1, count):
            host = (self.host + step) % count
            if host not in failed:
                all_burned = self.chain.proxies <= burned
                return replace(
                    self,
                    host=host,
                    group=0 if all_burned else self.group,
                    member=0 if all_burned else self.member,
                    failed_hosts=failed,
                    burned_proxies=frozenset() if all_burned else burned,
                    repeated=False,
                    no_cache=False,
                )
        return None


@dataclass(frozen=True, slots=True)
class Standing:
    """The route that works now, shared by all requests.

    Units: `host_left_at`, `proxy_left_at` are monotonic seconds when the first choice was left; None while it holds.
    """

    host: int = 0
    group: int = 0
    member: int = 0
    host_left_at: float | None = None
    proxy_left_at: float | None = None

    def journey(self, chain: Chain, now_s: float) -> Journey:
        """Where a request begins: at the route that worked last, or at the first again after its time."""
        host_is_due = _is_due(self.host_left_at, HOST_RESET_AFTER_S, now_s)
        proxy_is_due = _is_due(self.proxy_left_at, PROXY_RESET_AFTER_S, now_s)
        return Journey(
            chain,
            host=0 if host_is_due else self.host,
            group=0 if proxy_is_due else self.group,
            member=0 if proxy_is_due else self.member,
        )

    def arrived(self, journey: Journey, now_s: float) -> Standing:
        """What holds after a journey that succeeded: its route is the sticky one."""
        first_proxy = journey.group == 0 and journey.member == 0
        same_host = journey.host == self.host
        same_proxy = (journey.group, journey.member) == (self.group, self.member)
        return Standing(
            journey.host,
            journey.group,
            journey.member,
            None if journey.host == 0 else self.host_left_at if same_host else now_s,
            None if first_proxy else self.proxy_left_at if same_proxy else now_s,
        )


def _is_due(left_at: float | None, after_s: float, now_s: float) -> bool:
    return left_at is not None and now_s - left_at >= after_s


def outcome_of(status: int, headers: Mapping[str, str], *, via_proxy: bool) -> Outcome | None:
    """What an HTTP answer says of its route; None for a good one.

    Shape: `headers` with lower-case names.
    """
    if status == 200:
        return None
    if status == 429:
        return Outcome.BROKEN
    if status in _HOST_ERRORS or status in _REDIRECTS or status >= 500:
        by_proxy = "x-squid-error" in headers or "error=" in headers.get("proxy-status", "")
        return Outcome.PROXY if by_proxy and via_proxy else Outcome.HOST
    return Outcome.PROXY if via_proxy else Outcome.HOST
