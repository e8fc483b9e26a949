"""Where a repository comes from and what vouches for it: said by the caller, made here, or configured.

What the caller says goes first, then what `$CVM_HOME` knows of repositories that are made here, then `/etc/cvmfs`. A
caller who names server and key needs no configuration, and none is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cernvm.core.errors import NotFoundError
from cernvm.core.home import Home, check_repository_name
from cernvm.core.process import read_record
from cernvm.fs.cache import CacheSettings
from cernvm.fs.client import ClientSettings
from cernvm.fs.mount import MountSettings
from cernvm.fs.reader import Pin, ReaderSettings
from cernvm.fs.vfs import OwnerSettings
from cernvm.net import NetSettings

_NOWHERE = Path("/cvmfs")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller says of a repository; what is empty or None is found elsewhere or has its default.

    Shape: `url` may be several, joined by semicolons; `public_keys` are PEM files, any may vouch, and with
    `second_keys` one of these must have signed as well; `proxy` a chain as in
    `http://p1:3128|http://p2:3128;DIRECT`; the others are fields of the rooms' settings.
    """

    url: str = ""
    public_keys: tuple[Path, ...] = ()
    second_keys: tuple[Path, ...] = ()
    proxy: str = ""
    external_url: str = ""
    cache: Path | None = None
    cache_kind: str = ""
    quota_bytes: int | None = None
    alien_cache: Path | None = None
    alien_writes: bool | None = None
    is_cache_readable_by_all: bool | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    pin: Pin = field(default_factory=Pin)
    owners: OwnerSettings = field(default_factory=OwnerSettings)
    read_ahead: bool | None = None
    packs: bool | None = None
    profiles: bool | None = None


def locate(
    name: str, home: Home, wanted: Wanted, *, environment: Mapping[str, str] | None = None
) -> ClientSettings:
    """The settings of a repository's client.

    Shape: `environment` is that of the process, of which the configuration may make use.
    Errors: `InvalidInputError` for a name that is none; `NotFoundError` where no server or no key is known;
    `ConfigError` for a configuration that cannot be read.
    """
    return locate_mount(name, home, wanted, environment=environment).client


def locate_mount(
    name: str,
    home: Home,
    wanted: Wanted,
    *,
    point: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> MountSettings:
    """The settings of a mount at `point`, or where the configuration says. Errors: as `locate`."""
    check_repository_name(name)
    vouched = wanted.public_keys or wanted.pin.root_catalog
    configured = None
    if not (wanted.url and vouched) and not _is_made_here(home, name):
        from cernvm.fs.parameters import configured_settings  # noqa: PLC0415  # not for a plain client

        configured = configured_settings(
            name, home=home, environment=environment or {}, point=point
        )
    if configured is not None:
        return replace(configured, client=_with(configured.client, wanted))
    client = ClientSettings(
        name,
        NetSettings(wanted.url or _server_here(home, name)),
        CacheSettings(home.cache),
        ReaderSettings(wanted.public_keys if vouched else _keys_here(home, name)),
    )
    return MountSettings(_with(client, wanted), point or _NOWHERE / name, home.run)


def _with(client: ClientSettings, wanted: Wanted) -> ClientSettings:
    """The settings, with what the caller says in the place of what was found."""
    ahead = _replaced(
        client.reader.ahead,
        read_ahead=wanted.read_ahead,
        packs=wanted.packs,
        profiles=wanted.profiles,
    )
    return replace(
        client,
        net=_replaced(
            client.net,
            hosts=wanted.url,
            proxies=wanted.proxy,
            external_hosts=wanted.external_url,
        ),
        cache=_replaced(
            client.cache,
            folder=wanted.cache and wanted.cache.absolute(),
            kind=wanted.cache_kind,
            quota_bytes=wanted.quota_bytes,
            alien=wanted.alien_cache and wanted.alien_cache.absolute(),
            alien_writes=wanted.alien_writes,
            is_readable_by_all=wanted.is_cache_readable_by_all,
        ),
        reader=_replaced(
            replace(client.reader, ahead=ahead),
            public_keys=tuple(key.absolute() for key in wanted.public_keys),
            second_keys=tuple(key.absolute() for key in wanted.second_keys),
            pin=wanted.pin if wanted.pin.is_set else None,
        ),
        view=_replaced(
            client.view,
            variables={**client.view.variables, **wanted.variables},
            owners=wanted.owners if wanted.owners != OwnerSettings() else None,
        ),
    )


def _replaced(settings: Any, **fields: Any) -> Any:
    """The settings with the fields that are given."""
    given = {key: value for key, value in fields.items() if value not in (None, "", ())}
    return replace(settings, **given)


def _is_made_here(home: Home, name: str) -> bool:
    return any((f / f"{name}.toml").exists() for f in (home.repositories, home.replicas))


def _server_here(home: Home, name: str) -> str:
    """The URL under which `cvm repo serve` exports the repository."""
    server = read_record(home.run / "repo.json")
    if server is None or not server.is_alive or not server.address:
        raise NotFoundError(
            "server known for",
            name,
            advice="name one with --url, configure it in /etc/cvmfs, or start: cvm repo serve"
            + _or_the_nearest(home, name),
        )
    return f"http://{server.address}/cvmfs/{name}"


def _keys_here(home: Home, name: str) -> tuple[Path, ...]:
    from cernvm.fs.publish.repository import read_repository  # noqa: PLC0415  # not for a plain client
    from cernvm.fs.replicate.replica import is_replica, read_replica  # noqa: PLC0415  # as above

    if is_replica(home, name):
        return read_replica(home, name).public_keys
    try:
        return (read_repository(home, name).keys.public,)
    except NotFoundError:
        raise NotFoundError(
            "public key known for",
            name,
            advice=f"name its file with --public-key{_or_the_nearest(home, name)}",
        ) from None


def _or_the_nearest(home: Home, name: str) -> str:
    """The end of an advice: what may have been meant by a name of which nothing is known."""
    from cernvm.fs.api.known import known_names  # noqa: PLC0415  # it needs this module

    near = get_close_matches(name, {*known_names(home, environment={})} - {name}, 1)
    return f", or did you mean {near[0]}?" if near else ""
