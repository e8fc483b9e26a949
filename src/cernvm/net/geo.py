"""The Geo-API: a mirror's opinion on which mirrors, and which fallback proxies, are near. Pure.

Source: docs/formats/fetching.md.
"""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import quote, urlsplit

from cernvm.core.errors import FormatError
from cernvm.net.chain import DIRECT, Chain

MAX_ORDER_BYTES = 4096
SEPARATOR = "+PXYSEP+"

_ORDER = re.compile(rb"[0-9]{1,4}(?:,[0-9]{1,4})*\n?")


def geo_path(chain: Chain, name: str) -> str:
    """What a mirror is asked: the order of all mirrors, as seen from `name` (a proxy, or any word for this client).

    With fallback proxies their names follow a separator, and all is sorted as seen from the nearest of them.
    """
    places = [_hostname(host) for host in chain.hosts]
    if fallback := _fallback(chain):
        places += [SEPARATOR, *(_hostname(group[0]) for group in fallback)]
    return f"api/v1.0/geo/{quote(name, safe='')}/{quote(','.join(places), safe=',+[]:')}"


def reordered(chain: Chain, answer: bytes) -> Chain:
    """The chain in the order that `answer` gives. Errors: `FormatError` unless it names every place exactly once."""
    order = _parse_order(answer)
    fallback = _fallback(chain)
    hosts = len(chain.hosts)
    places = hosts + 1 + len(fallback) if fallback else hosts
    if sorted(order) != list(range(1, places + 1)):
        raise FormatError("the geographic order does not name each place once")
    regular = chain.proxy_groups[: len(chain.proxy_groups) - len(fallback)]
    nearest = tuple(fallback[place - hosts - 2] for place in order if place > hosts + 1)
    return replace(
        chain,
        hosts=tuple(chain.hosts[place - 1] for place in order if place <= hosts),
        proxy_groups=(*regular, *nearest),
    )


def name_for(chain: Chain, configured: str, fallback: str) -> str:
    """From where the order is asked for: what was configured, else the first proxy, else any word for this client."""
    if configured:
        return configured
    proxy = chain.proxy_groups[0][0]
    return fallback if proxy == DIRECT else _hostname(proxy)


def _parse_order(answer: bytes) -> list[int]:
    if len(answer) > MAX_ORDER_BYTES or not _ORDER.fullmatch(answer):
        raise FormatError("this is no geographic order")
    return [int(place) for place in answer.split(b",")]


def _fallback(chain: Chain) -> tuple[tuple[str, ...], ...]:
    count = chain.fallback_groups
    return chain.proxy_groups[len(chain.proxy_groups) - count :] if count else ()


def _hostname(url: str) -> str:
    return urlsplit(url).hostname or ""
