"""From parameters to the settings of a mount: one small function per room."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from cernvm.core.errors import NotFoundError
from cernvm.core.home import Home, check_repository_name, ensure_folder, write_atomically
from cernvm.fs.cache import CacheSettings
from cernvm.fs.client import ClientSettings
from cernvm.fs.mount import MountSettings
from cernvm.fs.mount.authorization import HELPER_FOLDER, AuthorizationSettings
from cernvm.fs.parameters.documents import FolderDocuments
from cernvm.fs.parameters.reading import DEFAULT_KEYS_DIR, MOUNT_DIR
from cernvm.fs.parameters.values import PREFIX, Parameters
from cernvm.fs.reader import Pin, ReaderSettings
from cernvm.fs.vfs import MagicSettings, OwnerSettings, ViewSettings, parse_id_map
from cernvm.net import NetSettings

_MIB = 1024 * 1024
_MOST_RETRIES = 10


def settings_of(
    parameters: Parameters,
    *,
    home: Home,
    point: Path,
    environment: Mapping[str, str] | None = None,
) -> MountSettings:
    """The settings that parameters stand for; what they leave open has this client's own default.

    Errors: `ConfigError` naming file and line of a value that makes no sense; `NotFoundError` without a server or key.
    """
    name = check_repository_name(parameters.repository)
    client = ClientSettings(
        name,
        _net(parameters),
        _cache(parameters, home),
        _reader(parameters, home),
        _view(parameters, environment or {}),
    )
    return MountSettings(
        client,
        point,
        home.run,
        talk=_path(parameters, "CVMFS_TALK_SOCKET"),
        authorization=_authorization(parameters),
    )


def default_point(parameters: Parameters) -> Path:
    """Where a repository is mounted that names no place: below `CVMFS_MOUNT_DIR`."""
    return Path(parameters.text("CVMFS_MOUNT_DIR", str(MOUNT_DIR))) / parameters.repository


def listed_names(parameters: Parameters) -> tuple[str, ...]:
    """The repositories that `CVMFS_REPOSITORIES` lists, each by its full name."""
    listed = parameters.text("CVMFS_REPOSITORIES").replace(",", " ").split()
    domain = parameters.text("CVMFS_DEFAULT_DOMAIN")
    full = (name if "." in name or not domain else f"{name}.{domain}" for name in listed)
    return tuple(dict.fromkeys(full))


def _net(parameters: Parameters) -> NetSettings:
    hosts = parameters.text("CVMFS_SERVER_URL")
    if not hosts:
        raise NotFoundError(
            "server known for",
            parameters.repository,
            advice="set CVMFS_SERVER_URL in /etc/cvmfs, or name one with --url",
        )
    return NetSettings(
        hosts,
        parameters.text("CVMFS_HTTP_PROXY", "DIRECT"),
        fallback_proxies=parameters.text("CVMFS_FALLBACK_PROXY"),
        shard_proxies=parameters.switch("CVMFS_PROXY_SHARD"),
        pac_urls=parameters.text("CVMFS_PAC_URLS"),
        timeout_s=parameters.number("CVMFS_TIMEOUT", 5, least=1),
        timeout_direct_s=parameters.number("CVMFS_TIMEOUT_DIRECT", 10, least=1),
        slow_bytes_per_s=parameters.number("CVMFS_LOW_SPEED_LIMIT", 1024),
        max_retries=min(parameters.number("CVMFS_MAX_RETRIES", 1), _MOST_RETRIES),
        backoff_first_s=parameters.number("CVMFS_BACKOFF_INIT", 2),
        backoff_most_s=parameters.number("CVMFS_BACKOFF_MAX", 10),
        host_reset_after_s=parameters.number("CVMFS_HOST_RESET_AFTER", 1800),
        proxy_reset_after_s=parameters.number("CVMFS_PROXY_RESET_AFTER", 300),
        follow_redirects=parameters.switch("CVMFS_FOLLOW_REDIRECTS"),
        use_geo=parameters.switch("CVMFS_USE_GEOAPI"),
        geo_name=parameters.text("CVMFS_PROXY_TEMPLATE"),
        max_hosts=parameters.number("CVMFS_MAX_SERVERS", 0),
        max_proxy_addresses=parameters.number("CVMFS_MAX_IPADDR_PER_PROXY", 0),
        prefer_ip=_prefer_ip(parameters),
        dns_roaming=parameters.switch("CVMFS_DNS_ROAMING", default=True),
        external_hosts=parameters.text("CVMFS_EXTERNAL_URL"),
        external_proxies=parameters.text("CVMFS_EXTERNAL_HTTP_PROXY"),
        external_fallback_proxies=parameters.text("CVMFS_EXTERNAL_FALLBACK_PROXY"),
        external_timeout_s=parameters.number("CVMFS_EXTERNAL_TIMEOUT", 0),
        external_timeout_direct_s=parameters.number("CVMFS_EXTERNAL_TIMEOUT_DIRECT", 0),
    )


def _prefer_ip(parameters: Parameters) -> int:
    number = parameters.number("CVMFS_IPFAMILY_PREFER", 0)
    if number not in (0, 4, 6):
        raise parameters.error("CVMFS_IPFAMILY_PREFER", "it is 4 or 6")
    return number


def _cache(parameters: Parameters, home: Home) -> CacheSettings:
    quota_mib = parameters.number("CVMFS_QUOTA_LIMIT", 4000, least=-1)
    quota_bytes = quota_mib * _MIB if quota_mib >= 0 else -1
    folder = _cache_folder(parameters, home)
    if parameters.is_set("CVMFS_ALIEN_CACHE"):
        alien = Path(parameters.text("CVMFS_ALIEN_CACHE"))
        return CacheSettings(folder, -1, kind="none", alien=alien, alien_writes=True)
    return CacheSettings(folder, quota_bytes)


def _cache_folder(parameters: Parameters, home: Home) -> Path:
    """Where the cache is: an ordinary user, who may not write there, keeps their own."""
    if parameters.is_set("CVMFS_CACHE_DIR"):
        folder = Path(parameters.text("CVMFS_CACHE_DIR"))
    elif parameters.is_set("CVMFS_CACHE_BASE"):
        folder = Path(parameters.text("CVMFS_CACHE_BASE")) / "cernvm"
    else:
        return home.cache
    there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    return folder if folder.is_absolute() and os.access(there, os.W_OK) else home.cache


def _reader(parameters: Parameters, home: Home) -> ReaderSettings:
    if not parameters.keys:
        folder = parameters.text("CVMFS_KEYS_DIR", DEFAULT_KEYS_DIR)
        raise NotFoundError(
            "public key known for",
            parameters.repository,
            advice=f"put one into {folder}, set CVMFS_PUBLIC_KEY, or name it with --public-key",
        )
    minutes = parameters.number("CVMFS_MAX_TTL", 0)
    return ReaderSettings(
        tuple(_file_of(key, place, home, "pub") for place, key in parameters.keys),
        pin=_pin(parameters),
        max_ttl_s=minutes * 60.0 or None,
        blacklists=tuple(
            _file_of(text, place, home, "blacklist") for place, text in parameters.blacklists
        ),
        second_keys=tuple(
            Path(path) for path in parameters.text("CVMFS_SECOND_KEYS").split(":") if path
        ),
    )


def _pin(parameters: Parameters) -> Pin:
    """Where several are set, the first of root hash, tag and date counts, as in the original."""
    root, tag = parameters.text("CVMFS_ROOT_HASH"), parameters.text("CVMFS_REPOSITORY_TAG")
    if root or tag:
        return Pin(root_catalog=root) if root else Pin(tag=tag)
    return Pin(at=parameters.text("CVMFS_REPOSITORY_DATE"))


def _file_of(content: bytes, place: str, home: Home, suffix: str) -> Path:
    """A file with this content: where it was found, or a copy if that is in a repository that is not mounted."""
    if not content or FolderDocuments().read(PurePosixPath(place)) == content:
        return Path(place)
    name = f"{hashlib.sha256(content).hexdigest()[:32]}.{suffix}"
    copy = ensure_folder(home.keys / "configured") / name
    write_atomically(copy, content)
    return copy


def _authorization(parameters: Parameters) -> AuthorizationSettings:
    folder = _path(parameters, "CVMFS_AUTHZ_SEARCH_PATH") or HELPER_FOLDER
    return AuthorizationSettings(_path(parameters, "CVMFS_AUTHZ_HELPER"), folder)


def _path(parameters: Parameters, name: str) -> Path | None:
    """An absolute path. Errors: `ConfigError`."""
    text = parameters.text(name)
    if text and not text.startswith("/"):
        raise parameters.error(name, f"{text[:80]!r} is no absolute path")
    return Path(text) if text else None


def _view(parameters: Parameters, environment: Mapping[str, str]) -> ViewSettings:
    """Only parameters fill in variant links: other variables of a process may be secrets."""
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    variables = {**given, **{name: parameters.text(name) for name in parameters}}
    return ViewSettings(variables, owners=_owners(parameters), magic=_magic(parameters))


def _owners(parameters: Parameters) -> OwnerSettings:
    claims = parameters.switch("CVMFS_CLAIM_OWNERSHIP")
    return OwnerSettings(
        _id_map(parameters, "CVMFS_UID_MAP"),
        _id_map(parameters, "CVMFS_GID_MAP"),
        os.geteuid() if claims else None,
        os.getegid() if claims else None,
    )


def _id_map(parameters: Parameters, name: str) -> dict[str, int]:
    path = _path(parameters, name)
    if path is None:
        return {}
    data = FolderDocuments().read(PurePosixPath(path))
    if data is None:
        raise parameters.error(name, f"there is no file {path}")
    return parse_id_map(data.decode("utf-8", "replace"), where=str(path))


def _magic(parameters: Parameters) -> MagicSettings:
    visibility = parameters.text("CVMFS_MAGIC_XATTRS_VISIBILITY", "rootonly").lower()
    if visibility not in ("rootonly", "always", "never"):
        raise parameters.error("CVMFS_MAGIC_XATTRS_VISIBILITY", "it is rootonly, always or never")
    protected = _list(parameters, "CVMFS_XATTR_PROTECTED_XATTRS")
    groups = _list(parameters, "CVMFS_XATTR_PRIVILEGED_GIDS")
    if not all(group.isdecimal() and len(group) < 11 for group in groups):
        raise parameters.error("CVMFS_XATTR_PRIVILEGED_GIDS", "groups are given by number")
    return MagicSettings(
        visibility,
        tuple(name.removeprefix("user.") for name in protected),
        tuple(map(int, groups)),
    )


def _list(parameters: Parameters, name: str) -> list[str]:
    return parameters.text(name).replace(",", " ").split()
