"""Where a repository comes from and what vouches for it: said by the caller, made here, or configured.

What the caller says goes first, then what `$CVM_HOME` knows of repositories that are made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cernvm.core.errors import NotFoundError
from cernvm.core.home import Home, check_repository_name
from cernvm.core.process import read_record
from cernvm.fs.cache import DEFAULT_QUOTA_BYTES, CacheSettings
from cernvm.fs.client import ClientSettings
from cernvm.fs.reader import Pin, ReaderSettings
from cernvm.fs.vfs import ViewSettings
from cernvm.net import NetSettings


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller says of a repository; what is empty or None is found elsewhere or has its default.

    Shape: `url` may be several, joined by semicolons; `public_keys` are PEM files, any may vouch; `proxy` a chain as in
    `http://p1:3128|http://p2:3128;DIRECT`.
    """

    url: str = ""
    public_keys: tuple[Path, ...] = ()
    proxy: str = ""
    cache: Path | None = None
    quota_bytes: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    pin: Pin = field(default_factory=Pin)


def locate(name: str, home: Home, wanted: Wanted) -> ClientSettings:
    """The settings of a repository's client.

    Errors: `InvalidInputError` for a name that is none; `NotFoundError` where no server or no key is known.
    """
    check_repository_name(name)
    return ClientSettings(
        name,
        NetSettings(wanted.url or _server_here(home, name), wanted.proxy or "DIRECT"),
        CacheSettings(
            (wanted.cache or home.cache).absolute(), wanted.quota_bytes or DEFAULT_QUOTA_BYTES
        ),
        ReaderSettings(_keys(name, home, wanted), pin=wanted.pin),
        ViewSettings(dict(wanted.variables)),
    )


def _keys(name: str, home: Home, wanted: Wanted) -> tuple[Path, ...]:
    if wanted.public_keys or wanted.pin.root_catalog:  # a root hash is vouched for by who gives it
        return tuple(key.absolute() for key in wanted.public_keys)
    return _keys_here(home, name)


def _server_here(home: Home, name: str) -> str:
    """The URL under which `cvm repo serve` exports the repository."""
    server = read_record(home.run / "repo.json")
    if server is None or not server.is_alive or not server.address:
        raise NotFoundError(
            "server known for", name, advice="name one with --url, or start: cvm repo serve"
        )
    return f"http://{server.address}/cvmfs/{name}"


def _keys_here(home: Home, name: str) -> tuple[Path, ...]:
    from cernvm.fs.publish.repository import read_repository  # noqa: PLC0415  # not for a plain client

    try:
        return (read_repository(home, name).keys.public,)
    except NotFoundError:
        raise NotFoundError(
            "public key known for", name, advice="name its file with --public-key"
        ) from None
