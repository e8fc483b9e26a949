"""Where to ask: mirrors in their order, reached through groups of proxies in theirs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote_from_bytes, urlsplit

from cernvm.core.errors import InvalidInputError

DIRECT = "DIRECT"
AUTO = "auto"  # a proxy that a PAC script will name

_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Chain:
    """All hosts and proxies that a repository may be fetched from.

    Shape: `hosts` are base URLs without a slash at the end; `proxy_groups` hold proxy URLs or `DIRECT`, groups in
    order of preference, members of a group alike; the last `fallback_groups` of them are for when the others have
    failed. `is_ordered`: somebody has put the hosts in order, and no mirror's opinion on that is asked.
    """

    hosts: tuple[str, ...]
    proxy_groups: tuple[tuple[str, ...], ...] = ((DIRECT,),)
    fallback_groups: int = 0
    is_ordered: bool = False
    proxies: frozenset[str] = field(init=False, compare=False)  # all that are not DIRECT

    def __post_init__(self) -> None:
        if not self.hosts:
            raise InvalidInputError("no host to fetch from", advice="name one with --url")
        if not self.proxy_groups or not all(self.proxy_groups):
            raise InvalidInputError("no proxy to use", advice="write DIRECT for none")
        members = frozenset(member for group in self.proxy_groups for member in group)
        object.__setattr__(self, "proxies", members - {DIRECT})

    @property
    def has_choice(self) -> bool:
        """Whether there is more than one route."""
        return len(self.hosts) > 1 or len(self.proxy_groups) > 1 or len(self.proxy_groups[0]) > 1


def parse_hosts(text: str, repository: str = "") -> tuple[str, ...]:
    """Hosts from `URL;URL`; `@fqrn@` stands for the repository's name, `@org@` for its first word.

    Errors: `InvalidInputError` naming the URL.

    >>> parse_hosts("http://one/cvmfs/@fqrn@; http://two:8000/cvmfs/a.b", "a.b")
    ('http://one/cvmfs/a.b', 'http://two:8000/cvmfs/a.b')
    """
    named = text.replace("@fqrn@", repository).replace("@org@", repository.partition(".")[0])
    urls = [part.strip() for part in named.split(";")]
    return tuple(_check_url(url, schemes=("http", "https")).rstrip("/") for url in urls if url)


def parse_proxies(text: str) -> tuple[tuple[str, ...], ...]:
    """Proxy groups from `http://p1:3128|http://p2:3128;DIRECT`; empty text means `DIRECT`.

    Errors: `InvalidInputError` naming the URL.

    >>> parse_proxies("http://p1:3128|http://p2:3128;DIRECT")
    (('http://p1:3128', 'http://p2:3128'), ('DIRECT',))
    """
    return _groups(text) or ((DIRECT,),)


def make_chain(hosts: tuple[str, ...], proxies: str, fallback_proxies: str = "") -> Chain:
    """A chain whose last groups are the fallback proxies; with these, nothing is fetched directly any more.

    Errors: `InvalidInputError` naming the URL.
    """
    fallback = _groups(fallback_proxies)
    if not fallback:
        return Chain(hosts, parse_proxies(proxies))
    if any(DIRECT in group for group in fallback):
        raise InvalidInputError("DIRECT is no fallback proxy", advice="name proxies only, or none")
    regular = [tuple(one for one in group if one != DIRECT) for group in _groups(proxies)]
    return Chain(hosts, (*(group for group in regular if group), *fallback), len(fallback))


def url_path(path: bytes) -> str:
    """A path of a file system as a path of a URL: for external data, whose names are files' names.

    >>> url_path("/data/a b/ü".encode())
    'data/a%20b/%C3%BC'
    """
    return quote_from_bytes(path.lstrip(b"/"), safe="/")


def _groups(text: str) -> tuple[tuple[str, ...], ...]:
    groups = [
        tuple(
            dict.fromkeys(
                _check_proxy(member.strip()) for member in group.split("|") if member.strip()
            )
        )
        for group in text.split(";")
    ]
    return tuple(group for group in groups if group)


def _check_proxy(text: str) -> str:
    if text in (DIRECT, AUTO):
        return text
    named = text if "://" in text else f"http://{text}"
    return _check_url(named, schemes=("http",)).rstrip("/")


def _check_url(text: str, *, schemes: tuple[str, ...]) -> str:
    advice = f"write {' or '.join(scheme + '://HOST[:PORT]/…' for scheme in schemes)}"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not _VISIBLE.fullmatch(text) or parts.query or parts.fragment:
        raise InvalidInputError(f"{text!r} is no URL to fetch from", advice=advice)
    if parts.username is not None or parts.password is not None:
        # Not quoted: what stands there may be a secret.
        raise InvalidInputError("a URL to fetch from has a user name in it", advice=advice)
    return text
