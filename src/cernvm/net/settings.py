"""What may be chosen about fetching, as plain values, and the fetcher made of them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from cernvm.net.chain import Chain, parse_hosts, parse_proxies
from cernvm.net.fetcher import ChainFetcher
from cernvm.net.http import HttpExchange


@dataclass(frozen=True, slots=True)
class NetSettings:
    """Where to fetch from. Shape: as `parse_hosts` and `parse_proxies` read them."""

    hosts: str
    proxies: str = "DIRECT"


def open_fetcher(settings: NetSettings, repository: str) -> ChainFetcher:
    """The fetcher for one repository; the caller closes it. Errors: `InvalidInputError` for a bad URL."""
    chain = Chain(parse_hosts(settings.hosts, repository), parse_proxies(settings.proxies))
    return ChainFetcher(chain.shuffled(random.Random()), HttpExchange())
