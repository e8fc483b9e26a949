"""Proxies by name made into one entry for each of their addresses, so that each can burn and be balanced alone."""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import replace
from urllib.parse import urlsplit

from cernvm.core.clock import Deadline
from cernvm.core.log import fields
from cernvm.net.chain import DIRECT, Chain
from cernvm.net.resolve import Resolver

log = logging.getLogger(__name__)


def expand_proxies(chain: Chain, resolver: Resolver, deadline: Deadline, *, most: int = 0) -> Chain:
    """The chain with addresses for names: of the first one's family only, at most `most` for each name if not 0.

    A name that cannot be resolved stays, and fails when it is its turn.
    """
    groups = tuple(
        tuple(
            dict.fromkeys(
                one for proxy in group for one in _expand(proxy, resolver, deadline, most)
            )
        )
        for group in chain.proxy_groups
    )
    return replace(chain, proxy_groups=groups)


def is_address(proxy: str) -> bool:
    """Whether nothing has to be found out about a proxy."""
    try:
        ipaddress.ip_address(urlsplit(proxy).hostname or "")
    except ValueError:
        return False
    return True


def _expand(proxy: str, resolver: Resolver, deadline: Deadline, most: int) -> list[str]:
    if proxy == DIRECT:
        return [proxy]
    parts = urlsplit(proxy)
    port = parts.port or 80
    try:
        found = resolver.addresses(parts.hostname or "", port, deadline)
    except OSError as error:
        log.warning("proxy.unknown", extra=fields(proxy=proxy, error=str(error)))
        return [proxy]
    family = found[0][0]
    addresses = sorted({str(address[0]) for kind, address in found if kind is family})
    shown = [f"[{one}]" if ":" in one else one for one in addresses]
    return [f"http://{one}:{port}" for one in (shown[:most] if most else shown)]
