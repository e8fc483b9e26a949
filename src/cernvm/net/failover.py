"""Which route next, given how the last one ended: the rules of mirrors and proxies as a pure state machine.

A `Standing` is what all requests share: the mirror and the proxy that work now, the proxies that failed, and since
when the first choice was left. A `Journey` is one request's way through the chain: each mirror is tried once, each
proxy once per mirror, and a proxy that nobody can connect to once in all. The rules are those that users of CernVM-FS
know: strict order of mirrors and of groups, one member of a group for everything, return to the first choice after a
while.
Source: docs/formats/fetching.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cernvm.net.chain import DIRECT, Chain
from cernvm.net.outcome import Outcome
from cernvm.net.sharding import choose

_OF_THE_HOST = frozenset({Outcome.HOST, Outcome.REFUSED, Outcome.BUSY})
_PASSING = frozenset({Outcome.UNREACHED, Outcome.BROKEN, Outcome.BUSY, Outcome.PROXY})


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be chosen about fail-over.

    Units: `max_retries` per route, and rounds through a chain that cannot be reached; waits in seconds.
    """

    max_retries: int = 1
    backoff_first_s: float = 2.0
    backoff_most_s: float = 10.0
    host_reset_after_s: float = 1800.0
    proxy_reset_after_s: float = 300.0
    shard: bool = False

    def longest_wait_s(self, retries: int) -> float:
        """The most that is waited before the retry of this number, counted from 1."""
        return float(min(self.backoff_first_s * 2 ** (retries - 1), self.backoff_most_s))


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
    """One request's way through the chain; `host` and `proxy` are the route that it takes now.

    Shape: `key` is the place on the ring of what is asked for, `dice` in [0, 1) picks among members alike.
    """

    chain: Chain
    rules: Rules
    key: int
    dice: float
    host: str
    group: int
    proxy: str
    burned: frozenset[str] = frozenset()
    unreached: frozenset[str] = frozenset()
    failed_hosts: frozenset[str] = frozenset()
    is_settled: bool = False
    retries: int = 0
    rounds: int = 0
    must_wait: bool = False
    no_cache: bool = False

    @property
    def route(self) -> Route:
        """Where to ask now."""
        return Route(self.host, self.proxy)

    @property
    def longest_wait_s(self) -> float:
        """The most to wait before asking; 0 for a step to another route."""
        return self.rules.longest_wait_s(self.retries or self.rounds) if self.must_wait else 0.0

    def after(self, outcome: Outcome) -> Journey | None:
        """The journey's next step; None when every route was tried."""
        settles = outcome not in _PASSING
        here = replace(self, must_wait=False, is_settled=self.is_settled or settles)
        if outcome in (Outcome.BROKEN, Outcome.BUSY) and self.retries < self.rules.max_retries:
            return replace(here, retries=self.retries + 1, must_wait=True)
        if outcome is Outcome.REFUSED and not self.no_cache:
            return replace(here, no_cache=True, retries=0)
        if outcome is Outcome.REFUSED and self.route.via_proxy:
            return _next_host(here) or _past_proxy(here)
        if not self.route.via_proxy or outcome in _OF_THE_HOST:
            return _next_host(here)
        is_gone = outcome in (Outcome.UNREACHED, Outcome.ABSENT)
        unreached = self.unreached | {self.proxy} if is_gone else self.unreached
        marked = replace(here, burned=self.burned | {self.proxy}, unreached=unreached)
        return _reroute(marked) or _next_host(marked)


@dataclass(frozen=True, slots=True)
class Standing:
    """The route that works now, shared by all requests; empty names stand for the first choice.

    Units: `host_left_at`, `proxy_left_at` are monotonic seconds when the first choice was left; None while it holds.
    """

    host: str = ""
    group: int = 0
    proxy: str = ""
    burned: frozenset[str] = frozenset()
    host_left_at: float | None = None
    proxy_left_at: float | None = None

    def rested(self, rules: Rules, now_s: float) -> Standing:
        """With the first choices again that have been left for their time."""
        standing = self
        if _is_due(self.host_left_at, rules.host_reset_after_s, now_s):
            standing = replace(standing, host="", host_left_at=None)
        if _is_due(self.proxy_left_at, rules.proxy_reset_after_s, now_s):
            standing = replace(standing, group=0, proxy="", burned=frozenset(), proxy_left_at=None)
        return standing

    def journey(self, chain: Chain, rules: Rules, *, key: int = 0, dice: float = 0.0) -> Journey:
        """Where a request begins: at the route that worked last."""
        group = min(self.group, len(chain.proxy_groups) - 1)
        ring_key = key if rules.shard else None
        burned = self.burned & chain.proxies
        picked = pick(chain, group, burned, dice, ring_key, self.proxy)
        if picked is None:
            burned = frozenset()
            picked = pick(chain, 0, burned, dice, ring_key, "")
        assert picked is not None, "a chain has at least one proxy"
        host = self.host if self.host in chain.hosts else chain.hosts[0]
        return Journey(chain, rules, key, dice, host, picked[0], picked[1], burned)

    def failed(self, journey: Journey, outcome: Outcome, now_s: float) -> Standing:
        """What others learn at once of a step that failed: a proxy that costs them time and will not help."""
        costs_time = outcome in (Outcome.UNREACHED, Outcome.ABSENT, Outcome.STALLED)
        if not (costs_time and journey.route.via_proxy) or journey.proxy in self.burned:
            return self
        left_at = now_s if self.proxy_left_at is None else self.proxy_left_at
        return replace(self, burned=self.burned | {journey.proxy}, proxy_left_at=left_at)

    def arrived(self, journey: Journey, now_s: float) -> Standing:
        """What holds after a journey that succeeded: its route is the sticky one."""
        first = journey.chain.hosts[0]
        if journey.host == first:
            host_left_at = None
        elif journey.host == (self.host or first):
            host_left_at = self.host_left_at
        else:
            host_left_at = now_s
        proxy_left_at = None
        if journey.group > 0 or journey.burned:
            proxy_left_at = now_s if self.proxy_left_at is None else self.proxy_left_at
        return Standing(
            journey.host,
            journey.group,
            journey.proxy,
            journey.burned,
            host_left_at,
            proxy_left_at,
        )

    def holds(self, journey: Journey) -> bool:
        """Whether a journey that succeeded tells nothing new."""
        same_proxy = journey.rules.shard or journey.proxy == self.proxy
        same_host = journey.host == self.host
        return (
            same_host
            and same_proxy
            and journey.group == self.group
            and journey.burned == self.burned
        )

    def gave_up(self, journey: Journey, now_s: float) -> Standing:
        """What holds when a request's time was over: the next begins with the mirror that this one did not come to."""
        if journey.host == (self.host or journey.chain.hosts[0]):
            return self
        left_at = now_s if self.host_left_at is None else self.host_left_at
        return replace(self, host=journey.host, host_left_at=left_at)


def _next_host(journey: Journey) -> Journey | None:
    failed = journey.failed_hosts | {journey.host}
    hosts = journey.chain.hosts
    at = hosts.index(journey.host)
    following = [host for host in hosts[at + 1 :] + hosts[:at] if host not in failed]
    if not following:
        return _next_round(journey)
    moved = replace(journey, host=following[0], failed_hosts=failed, no_cache=False, retries=0)
    if journey.chain.proxies <= journey.burned:
        # a proxy that could not reach this mirror may reach the next; one that is not there will not be
        moved = replace(moved, burned=journey.unreached, group=0)
    return _reroute(moved) or _next_round(moved)


def _past_proxy(journey: Journey) -> Journey | None:
    """All mirrors again by another proxy: it may be this one that spoils what they send."""
    first = journey.chain.hosts[0]
    spoiling = frozenset({journey.proxy})
    return _reroute(
        replace(
            journey,
            host=first,
            burned=journey.burned | spoiling,
            unreached=journey.unreached | spoiling,  # nor is it to be tried for a mirror to come
            failed_hosts=frozenset(),
            no_cache=False,
        )
    )


def _next_round(journey: Journey) -> Journey | None:
    """From the beginning, after a wait, if all that failed was passing: servers may just have been starting."""
    if journey.is_settled or journey.rounds >= journey.rules.max_retries:
        return None
    first = journey.chain.hosts[0]
    fresh = Journey(journey.chain, journey.rules, journey.key, journey.dice, first, 0, proxy="")
    return _reroute(replace(fresh, rounds=journey.rounds + 1, must_wait=True))


def _reroute(journey: Journey) -> Journey | None:
    """The same mirror by a proxy that has not failed, from the present group on; None when there is none."""
    key = journey.key if journey.rules.shard else None
    picked = pick(journey.chain, journey.group, journey.burned, journey.dice, key, journey.proxy)
    if picked is None:
        return None
    return replace(journey, group=picked[0], proxy=picked[1], retries=0)


def pick(
    chain: Chain, group: int, burned: frozenset[str], dice: float, key: int | None, sticky: str
) -> tuple[int, str] | None:
    """Group and member to use, from `group` on and around; None when all have burned."""
    count = len(chain.proxy_groups)
    for number in range(group, group + count):
        alive = tuple(one for one in chain.proxy_groups[number % count] if one not in burned)
        if not alive:
            continue
        if key is not None:
            return number % count, choose(alive, key)
        return number % count, sticky if sticky in alive else alive[int(dice * len(alive))]
    return None


def _is_due(left_at: float | None, after_s: float, now_s: float) -> bool:
    return left_at is not None and now_s - left_at >= after_s
