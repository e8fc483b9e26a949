"""What an answer, or the lack of one, says of the route it came by."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_GOOD = frozenset({200, 203})
_HOST_ERRORS = frozenset({400, 404, 410})


class Outcome(Enum):
    """How a route failed."""

    HOST = "host"  # the mirror answered, and badly
    PROXY = "proxy"  # the proxy did, or could not reach the mirror
    BUSY = "busy"  # the mirror wants to be asked later
    UNREACHED = "unreached"  # the route's first machine takes no connection: it may be starting
    ABSENT = "absent"  # no sign of the route's first machine in its time
    BROKEN = "broken"  # the connection broke: worth one more try on the same route
    STALLED = "stalled"  # connected and silent or too slow: a second try would cost as long again
    REFUSED = "refused"  # a complete answer whose content is not what was asked for


def outcome_of(status: int, headers: Mapping[str, str], *, via_proxy: bool) -> Outcome | None:
    """What an HTTP answer says of its route; None for a good one.

    Shape: `headers` with lower-case names.
    """
    if status in _GOOD:
        return None
    if status == 429:
        return Outcome.BUSY
    if status in _HOST_ERRORS or status in REDIRECTS or status >= 500:
        by_proxy = "x-squid-error" in headers or "error=" in headers.get("proxy-status", "")
        return Outcome.PROXY if by_proxy and via_proxy else Outcome.HOST
    return Outcome.PROXY if via_proxy else Outcome.HOST
