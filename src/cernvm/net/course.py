"""The course that all requests of a fetcher share: which mirror and proxy now, by what requests met and by hand.

The rules are those of `failover.py`; here are their state, its lock and their clock. Concurrency: safe from any thread.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cernvm.core.clock import Clock, Deadline
from cernvm.core.errors import InvalidInputError
from cernvm.core.log import fields
from cernvm.net.chain import make_chain, parse_hosts
from cernvm.net.failover import Journey, Route, Rules, Standing
from cernvm.net.outcome import Outcome
from cernvm.net.roster import Roster
from cernvm.net.sharding import shard_key

MOST_ROUTES = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turns:
    """How often requests had to go another way."""

    retries: int = 0
    host_failovers: int = 0
    proxy_failovers: int = 0


class Course:
    """Where requests go, and what they tell each other of it."""

    def __init__(self, roster: Roster, rules: Rules, clock: Clock, source: random.Random) -> None:
        self._roster = roster
        self._rules = rules
        self._clock = clock
        self._random = source
        self._dice = source.random()
        self._standing = Standing()
        self._turns = Turns()
        self._lock = threading.Lock()

    @property
    def is_sharded(self) -> bool:
        """Whether the proxy depends on what is asked for."""
        return self._rules.shard

    def depart(self, path: str, deadline: Deadline) -> Journey:
        """The first step of a request. Errors: as `Roster.chain`."""
        chain = self._roster.chain(deadline)
        standing = self._standing
        if standing.host_left_at is not None or standing.proxy_left_at is not None:
            standing = self._rest()
        key = shard_key(path) if self._rules.shard else 0
        return standing.journey(chain, self._rules, key=key, dice=self._dice)

    def _rest(self) -> Standing:
        with self._lock:
            rested = self._standing.rested(self._rules, self._clock.monotonic())
            if rested.proxy_left_at is None and self._standing.proxy_left_at is not None:
                self._dice = self._random.random()
            self._standing = rested
            return rested

    def advance(
        self, journey: Journey, outcome: Outcome, asked_s: float, deadline: Deadline
    ) -> Journey | None:
        """The next step once its time has come; None when there is none.

        `asked_s` is how long the server asks to be left alone. A wait leaves most of the time for what follows.
        """
        following = journey.after(outcome)
        with self._lock:
            self._standing = self._standing.failed(journey, outcome, self._clock.monotonic())
            if following is not None:
                self._turns = _counted(self._turns, journey, following)
        if following is not None and following.must_wait:
            wait_s = max(self._random.uniform(0, following.longest_wait_s), asked_s)
            self._clock.sleep(min(wait_s, deadline.remaining_s / 4))
        return following

    def arrive(self, journey: Journey) -> None:
        """A request succeeded by this route."""
        if self._standing.holds(journey):
            return
        with self._lock:
            before = self._standing
            self._standing = before.arrived(journey, self._clock.monotonic())
        if before.host or journey.burned or journey.failed_hosts:
            extra = fields(host=journey.host, proxy=journey.proxy)
            log.warning("fetch.route_changed", extra=extra)

    def give_up(self, journey: Journey | None) -> None:
        """A request's time was over before it took this step."""
        if journey is not None:
            with self._lock:
                self._standing = self._standing.gave_up(journey, self._clock.monotonic())

    @property
    def hosts(self) -> tuple[str, ...]:
        """The mirrors, the one in use first."""
        hosts, used = self._roster.known.hosts, self._standing.host
        first = hosts.index(used) if used in hosts else 0
        return hosts[first:] + hosts[:first]

    @property
    def proxy(self) -> str:
        """The proxy in use, or `DIRECT`."""
        return self._now().proxy

    @property
    def routes(self) -> tuple[Route, ...]:
        """What a request would try now, in turn, if nothing could be reached; each route once, the first of many."""
        found: dict[Route, None] = {}
        journey: Journey | None = self._now()
        while journey is not None and journey.rounds == 0 and len(found) < MOST_ROUTES:
            found[journey.route] = None
            journey = journey.after(Outcome.UNREACHED)
        return tuple(found)

    @property
    def proxy_groups(self) -> tuple[tuple[str, ...], ...]:
        """The groups of proxies as they are now, names expanded to addresses; the fallback groups last."""
        return self._roster.known.proxy_groups

    @property
    def proxies(self) -> tuple[str, str]:
        """The proxies and the fallback proxies, as `set_proxies` takes them."""
        chain = self._roster.configured
        groups = ["|".join(group) for group in chain.proxy_groups]
        regular = len(groups) - chain.fallback_groups
        return ";".join(groups[:regular]), ";".join(groups[regular:])

    @property
    def turns(self) -> Turns:
        """Counts for whoever watches."""
        return self._turns

    def switch_host(self) -> str:
        """Go on to the next mirror, for good; it is told."""
        hosts = self.hosts
        following = hosts[1 % len(hosts)]
        with self._lock:
            self._standing = replace(self._standing, host=following, host_left_at=None)
        return following

    def set_hosts(self, text: str, repository: str = "") -> None:
        """Use these mirrors from now on. Errors: `InvalidInputError`."""
        self.order_hosts(parse_hosts(text, repository))

    def order_hosts(self, hosts: Sequence[str]) -> None:
        """Use these mirrors in this order from now on."""
        configured = self._roster.configured
        self._roster.configure(replace(configured, hosts=tuple(hosts), is_ordered=True))
        with self._lock:
            self._standing = replace(self._standing, host="", host_left_at=None)

    def set_proxies(self, text: str, fallback: str = "") -> None:
        """Use these proxies from now on. Errors: `InvalidInputError`."""
        configured = self._roster.configured
        chain = make_chain(configured.hosts, text, fallback)
        self._roster.configure(replace(chain, is_ordered=configured.is_ordered))
        self.rebalance_proxies()

    def rebalance_proxies(self) -> str:
        """Pick a member of the first group anew; it is told."""
        with self._lock:
            self._dice = self._random.random()
            self._standing = replace(
                self._standing, group=0, proxy="", burned=frozenset(), proxy_left_at=None
            )
        return self.proxy

    def switch_proxy_group(self) -> str:
        """Go on to the next group, until the time of return; the proxy in use then is told."""
        count = len(self._roster.known.proxy_groups)
        if count < 2:
            raise InvalidInputError("there is one group of proxies only")
        now = self._now()
        with self._lock:
            following = (now.group + 1) % count
            left_at = self._clock.monotonic() if following else None
            self._standing = replace(
                self._standing, group=following, proxy="", burned=frozenset(), proxy_left_at=left_at
            )
        return self.proxy

    def _now(self) -> Journey:
        return self._standing.journey(self._roster.known, self._rules, dice=self._dice)


def _counted(turns: Turns, before: Journey, after: Journey) -> Turns:
    if after.host != before.host:
        return replace(turns, host_failovers=turns.host_failovers + 1)
    if after.proxy != before.proxy:
        return replace(turns, proxy_failovers=turns.proxy_failovers + 1)
    return replace(turns, retries=turns.retries + 1)
