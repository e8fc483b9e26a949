"""Fetching over HTTP through chains of mirrors and proxies, with a deadline on every wait.

Values: `Chain` (where to ask; `chain.py`), `Attempt` (what one host said; `port.py`). Rules: `failover.py`, a pure
state machine (which route next, given how the last one ended). Port: `Fetcher`; its one implementation `ChainFetcher`
(`fetcher.py`) drives the rules over an `Exchange` (one GET on one route): `HttpExchange` (`http.py`, `connection.py`,
`resolve.py`) or the in-memory `MemoryExchange` (`memory.py`).

Who is in a hurry and who makes way: `Urgency` (`terms.py`) and `Lanes` (`lanes.py`), which hold as many background
requests as pay (`window.py`) and measure the way to the hosts (`Link`, `link.py`).

Other rooms ask over `Connection` (`connection.py`) directly, and serve on sockets of `open_listener` (`listening.py`).
"""

from cernvm.net.chain import Chain, parse_hosts, parse_proxies
from cernvm.net.connection import Timing
from cernvm.net.fetcher import ChainFetcher, fetch
from cernvm.net.http import HttpExchange
from cernvm.net.link import Link
from cernvm.net.memory import Fault, MemoryExchange
from cernvm.net.port import Attempt, Fetcher, Sink, Traffic, Want
from cernvm.net.settings import NetSettings, open_fetcher
from cernvm.net.terms import Credentials, Urgency

__all__ = [
    "Attempt",
    "Chain",
    "ChainFetcher",
    "Credentials",
    "Fault",
    "Fetcher",
    "HttpExchange",
    "Link",
    "MemoryExchange",
    "NetSettings",
    "Sink",
    "Timing",
    "Traffic",
    "Urgency",
    "Want",
    "fetch",
    "open_fetcher",
    "parse_hosts",
    "parse_proxies",
]
