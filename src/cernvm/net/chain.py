"""Where to ask: mirrors in their order, reached through groups of proxies in theirs."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from cernvm.core.errors import InvalidInputError

DIRECT = "DIRECT"

_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Chain:
    """All hosts and proxies that a repository may be fetched from.

    Shape: `hosts` are base URLs without a slash at the end; `proxy_groups` hold proxy URLs or `DIRECT`, groups in order
    of preference, members of a group alike.
    """

    hosts: tuple[str, ...]
    proxy_groups: tuple[tuple[str, ...], ...] = ((DIRECT,),)

    def __post_init__(self) -> None:
        if not self.hosts:
            raise InvalidInputError("no host to fetch from", advice="name one with --url")
        if not self.proxy_groups or not all(self.proxy_groups):
            raise InvalidInputError("no proxy to use", advice="write DIRECT for none")

    @property
    def proxies(self) -> frozenset[tuple[int, int]]:
        """Group and member of everything that is not `DIRECT`."""
        return frozenset(
            (number, place)
            for number, group in enumerate(self.proxy_groups)
            for place, member in enumerate(group)
            if member != DIRECT
        )

    def shuffled(self, source: random.Random) -> Chain:
        """The same chain with the members of each proxy group in random order: load is spread over clients."""
        groups = [list(group) for group in self.proxy_groups]
        for group in groups:
            source.shuffle(group)
        return replace(self, proxy_groups=tuple(map(tuple, groups)))


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
    groups = [
        tuple(_check_proxy(member.strip()) for member in group.split("|") if member.strip())
        for group in text.split(";")
    ]
    return tuple(group for group in groups if group) or ((DIRECT,),)


def _check_proxy(text: str) -> str:
    return DIRECT if text == DIRECT else _check_url(text, schemes=("http",)).rstrip("/")


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
