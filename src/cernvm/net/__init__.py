"""Fetching over HTTP through chains of mirrors and proxies, with a deadline on every wait.

Values: `Chain` (where to ask; `chain.py`), `Attempt` (what one host said; `port.py`), `Terms` (how; `terms.py`).
Rules, all pure: `outcome.py` (what an answer says of its route), `failover.py` (which route next), `sharding.py`
(which proxy of a group keeps an object), `redirect.py`, `geo.py`. Port: `Fetcher`; its one implementation
`ChainFetcher` (`fetcher.py`) follows the `Course` that its requests share (`course.py`), over a chain of which some
had to be found out (`roster.py`, `discovery.py`, `expansion.py`, `pac.py`), and drives the rules over an `Exchange`
(one GET on one route): `HttpExchange` (`http.py` keeps connections, `wire.py` is one, `head.py` reads heads strictly,
`resolve.py` names) or `MemoryExchange` (`memory.py`).

Who is in a hurry and who makes way: `Urgency` (`terms.py`) and `Lanes` (`lanes.py`), which hold as many background
requests as pay (`window.py`) and measure the way to the hosts (`Link`, `link.py`).

What is no repository is asked for over a plain `Connection` (`connection.py`); servers listen on sockets of
`open_listener` (`listening.py`).
"""

from cernvm.net.chain import Chain, make_chain, parse_hosts, parse_proxies, url_path
from cernvm.net.connection import Timing
from cernvm.net.course import Course, Turns
from cernvm.net.document import fetch
from cernvm.net.failover import Rules
from cernvm.net.fetcher import ChainFetcher
from cernvm.net.http import HttpExchange
from cernvm.net.link import Link
from cernvm.net.memory import Fault, MemoryExchange
from cernvm.net.port import Attempt, Fetcher, Sink, Traffic, Want
from cernvm.net.probing import Probe
from cernvm.net.settings import NetSettings, open_external_fetcher, open_fetcher
from cernvm.net.terms import Credentials, Urgency

__all__ = [
    "Attempt",
    "Chain",
    "ChainFetcher",
    "Course",
    "Credentials",
    "Fault",
    "Fetcher",
    "HttpExchange",
    "Link",
    "MemoryExchange",
    "NetSettings",
    "Probe",
    "Rules",
    "Sink",
    "Timing",
    "Traffic",
    "Turns",
    "Urgency",
    "Want",
    "fetch",
    "make_chain",
    "open_external_fetcher",
    "open_fetcher",
    "parse_hosts",
    "parse_proxies",
    "url_path",
]
