"""What may be chosen about fetching, as plain values, and the fetchers made of them.

There is no endless fail-over, as the original can be told: a reader always gets data or an error within its deadline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cernvm.net.chain import Chain, make_chain, parse_hosts
from cernvm.net.connection import Timing
from cernvm.net.discovery import Discovery
from cernvm.net.expansion import is_address
from cernvm.net.failover import Rules
from cernvm.net.fetcher import ChainFetcher
from cernvm.net.http import HttpExchange
from cernvm.net.lanes import MAX_BACKGROUND, MAX_CONNECTIONS
from cernvm.net.resolve import KEEP_S, Resolver
from cernvm.net.roster import FoundRoster, Roster


@dataclass(frozen=True, slots=True)
class NetSettings:
    """Where to fetch from, and how. The defaults are those that users of CernVM-FS know.

    Shape: hosts and proxies as `parse_hosts` and `parse_proxies` read them; the fields of external data are for a
    chain of its own, and stand for those of other data where they are empty or 0.
    Units: `timeout_s` through a proxy and `timeout_direct_s` without one are the longest wait for a connection and
    the window in which `slow_bytes_per_s` must come. `max_hosts`, `max_proxy_addresses`: 0 is no limit; `prefer_ip`
    4, 6 or 0.
    """

    hosts: str
    proxies: str = "DIRECT"
    fallback_proxies: str = ""
    shard_proxies: bool = False
    pac_urls: str = ""
    timeout_s: float = 5.0
    timeout_direct_s: float = 10.0
    slow_bytes_per_s: int = 1024
    max_retries: int = 1
    backoff_first_s: float = 2.0
    backoff_most_s: float = 10.0
    host_reset_after_s: float = 1800.0
    proxy_reset_after_s: float = 300.0
    follow_redirects: bool = False
    max_connections: int = MAX_CONNECTIONS
    max_background: int = MAX_BACKGROUND
    use_geo: bool = False
    geo_name: str = ""
    max_hosts: int = 0
    max_proxy_addresses: int = 0
    prefer_ip: int = 0
    dns_ttl_s: float = KEEP_S
    dns_roaming: bool = True
    external_hosts: str = ""
    external_proxies: str = ""
    external_fallback_proxies: str = ""
    external_timeout_s: float = 0.0
    external_timeout_direct_s: float = 0.0


def open_fetcher(settings: NetSettings, repository: str) -> ChainFetcher:
    """The fetcher for one repository; the caller closes it. Errors: `InvalidInputError` for a bad URL."""
    hosts = parse_hosts(settings.hosts, repository)
    chain = make_chain(hosts, settings.proxies, settings.fallback_proxies)
    return _fetcher(settings, chain, settings.timeout_s, settings.timeout_direct_s)


def open_external_fetcher(settings: NetSettings, repository: str) -> ChainFetcher | None:
    """The fetcher for data that is kept elsewhere, by its path (`url_path`); None where no host of it is named."""
    if not settings.external_hosts:
        return None
    hosts = parse_hosts(settings.external_hosts, repository)
    proxies = settings.external_proxies or settings.proxies
    chain = make_chain(hosts, proxies, settings.external_fallback_proxies)
    timeout_s = settings.external_timeout_s or settings.timeout_s
    return _fetcher(
        settings, chain, timeout_s, settings.external_timeout_direct_s or settings.timeout_direct_s
    )


def _fetcher(
    settings: NetSettings, chain: Chain, timeout_s: float, timeout_direct_s: float
) -> ChainFetcher:
    resolver = Resolver(
        keep_s=settings.dns_ttl_s, prefer_ip=settings.prefer_ip, is_roaming=settings.dns_roaming
    )
    exchange = HttpExchange(
        timing=Timing(timeout_direct_s, timeout_direct_s, settings.slow_bytes_per_s),
        proxy_timing=Timing(timeout_s, timeout_s, settings.slow_bytes_per_s),
        max_connections=settings.max_connections,
        max_background=settings.max_background,
        resolver=resolver,
    )
    rules = Rules(
        settings.max_retries,
        settings.backoff_first_s,
        settings.backoff_most_s,
        settings.host_reset_after_s,
        settings.proxy_reset_after_s,
        settings.shard_proxies,
    )
    return ChainFetcher(
        _roster(settings, chain, exchange, resolver),
        exchange,
        rules=rules,
        follow_redirects=settings.follow_redirects,
    )


def _roster(
    settings: NetSettings, chain: Chain, exchange: HttpExchange, resolver: Resolver
) -> Roster:
    discovery = Discovery(
        exchange,
        resolver,
        pac_urls=settings.pac_urls,
        geo_name=settings.geo_name if settings.use_geo else None,
        max_hosts=settings.max_hosts,
        max_addresses=settings.max_proxy_addresses,
    )
    if not settings.use_geo:
        chain = replace(chain, hosts=chain.hosts[: settings.max_hosts or None])
    return FoundRoster(
        chain,
        discovery.find_out,
        is_due=discovery.is_due,
        is_plain=lambda known: not settings.use_geo and all(map(is_address, known.proxies)),
    )
