"""Finding out a chain: proxies from PAC scripts, addresses for names, mirrors and fallback proxies by distance."""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, HostError
from cernvm.core.log import fields
from cernvm.net.answers import pour
from cernvm.net.chain import AUTO, Chain, make_chain, parse_hosts
from cernvm.net.document import Collected
from cernvm.net.expansion import expand_proxies
from cernvm.net.failover import Route
from cernvm.net.geo import MAX_ORDER_BYTES, geo_path, name_for, reordered
from cernvm.net.pac import MAX_SCRIPT_BYTES, pac_urls, run_script
from cernvm.net.port import Exchange
from cernvm.net.resolve import Resolver

MAX_GEO_HOSTS = 3

PAC_KEEP_S = 1800.0

_ONE_QUESTION_S = 3.0

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Discovery:
    """What has to be found out for one fetcher. Concurrency: one thread at a time.

    `geo_name` is None where mirrors keep their configured order; the order is asked for once, the rest again and again.
    """

    exchange: Exchange
    resolver: Resolver
    pac_urls: str = ""
    geo_name: str | None = None
    max_hosts: int = 0
    max_addresses: int = 0
    client: str = field(default_factory=lambda: str(uuid.uuid4()))
    _ordered: tuple[Chain, Chain] | None = None
    _network: object = None  # where the machine was at the last search
    _named: str = ""  # by a PAC script
    _named_at_s: float = 0.0

    def find_out(self, configured: Chain, deadline: Deadline) -> Chain:
        """The chain to use. Errors: `HostError` when PAC scripts are to name the proxies and none does."""
        network, self._network = self._network, self.resolver.network
        chain = self._with_pac(configured, deadline, has_moved=network != self._network)
        chain = self._near_first(chain, deadline)
        if self.max_hosts:
            chain = replace(chain, hosts=chain.hosts[: self.max_hosts])
        return expand_proxies(chain, self.resolver, deadline, most=self.max_addresses)

    def is_due(self, age_s: float) -> bool:
        """Whether what was found out so long ago may have changed."""
        return age_s >= self.resolver.keep_s or self.resolver.network != self._network

    def _with_pac(self, chain: Chain, deadline: Deadline, *, has_moved: bool) -> Chain:
        if not any(AUTO in group for group in chain.proxy_groups):
            return chain
        if self._named and not has_moved and time.monotonic() - self._named_at_s < PAC_KEEP_S:
            return _with_groups(chain, self._named)
        failure: CvmError | None = None
        for url in pac_urls(self.pac_urls):
            try:
                proxies = self._ask_pac(url, chain.hosts[0], deadline)
            except CvmError as error:
                log.warning("pac.failed", extra=fields(url=url, error=str(error)))
                failure = error
            else:
                log.info("pac.found", extra=fields(url=url, proxies=proxies))
                self._named, self._named_at_s = proxies, time.monotonic()
                return _with_groups(chain, proxies)
        reason = f"no proxy could be found by a PAC script: {failure}"
        raise HostError(chain.hosts[0], reason, advice="name the proxies, or DIRECT")

    def _ask_pac(self, url: str, host: str, deadline: Deadline) -> str:
        origin, _, path = parse_hosts(url)[0].partition("://")[2].partition("/")
        scheme = url.partition("://")[0]
        route = Route(f"{scheme}://{origin}", "DIRECT")
        script = self._get(route, path, MAX_SCRIPT_BYTES, bytes, deadline)
        return run_script(script, host, deadline)

    def _near_first(self, chain: Chain, deadline: Deadline) -> Chain:
        has_choice = len(chain.hosts) + chain.fallback_groups > 1
        if self.geo_name is None or chain.is_ordered or not has_choice:
            return chain
        if self._ordered is None or self._ordered[0] != chain:
            self._ordered = (chain, self._ask_order(chain, deadline))
        return self._ordered[1]

    def _ask_order(self, chain: Chain, deadline: Deadline) -> Chain:
        path = geo_path(chain, name_for(chain, self.geo_name or "", self.client))
        hosts = random.sample(chain.hosts, min(MAX_GEO_HOSTS, len(chain.hosts)))
        proxy = chain.proxy_groups[0][0]
        for host in hosts:
            try:
                return self._get(
                    Route(host, proxy),
                    path,
                    MAX_ORDER_BYTES,
                    lambda answer: reordered(chain, answer),
                    deadline,
                )
            except CvmError as error:
                log.warning("geo.failed", extra=fields(host=host, error=str(error)))
        return chain

    def _get(
        self,
        route: Route,
        path: str,
        limit_bytes: int,
        accept: Callable[[bytes], T],
        deadline: Deadline,
    ) -> T:
        url = f"{route.host}/{path}"
        limit = Deadline.after(min(_ONE_QUESTION_S, deadline.remaining_s))
        with self.exchange.get(route, path, deadline=limit) as answer:
            if answer.status != 200:
                raise HostError(url, f"HTTP {answer.status}", status=answer.status)
            return pour(answer, Collected(accept), url, limit_bytes, on_received=lambda _: None)


def _with_groups(chain: Chain, proxies: str) -> Chain:
    count = len(chain.proxy_groups) - chain.fallback_groups
    fallback = ";".join("|".join(group) for group in chain.proxy_groups[count:])
    return replace(make_chain(chain.hosts, proxies, fallback), is_ordered=chain.is_ordered)
