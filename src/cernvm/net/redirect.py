"""Where a redirect leads, if it may be followed at all: pure."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from cernvm.core.errors import HostError
from cernvm.net.failover import Route

MAX_REDIRECTS = 4
MAX_LOCATION_BYTES = 2048

_VISIBLE = re.compile(r"[\x21-\x7e]+")


def next_stop(route: Route, path: str, location: str, status: int = 302) -> tuple[Route, str]:
    """The route and the path to which an answer's `location` leads, through the same proxy.

    Errors: `HostError` for one that leaves the scheme, carries credentials or is no URL; for the caller are their
    number, and that nothing secret goes there.
    """
    url = f"{route.host}/{path}"
    if len(location) > MAX_LOCATION_BYTES or not _VISIBLE.fullmatch(location):
        raise HostError(url, "it redirects to what is no URL", status=status)
    try:
        parts = urlsplit(urljoin(url, location))
        has_user = parts.username is not None or parts.password is not None
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable, has_user = False, False
    if not usable or has_user or parts.scheme != urlsplit(route.host).scheme:
        reason = "it redirects to another scheme, with a user name, or to no URL"
        raise HostError(url, reason, status=status)
    target = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
    return Route(f"{parts.scheme}://{parts.netloc}", route.proxy), target
