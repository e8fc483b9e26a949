"""From parameters to the settings of a mount: one small function per room."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from cernvm.core.errors import NotFoundError
from cernvm.core.home import Home, check_repository_name
from cernvm.fs.cache import CacheSettings
from cernvm.fs.client import ClientSettings
from cernvm.fs.mount import MountSettings
from cernvm.fs.parameters.reading import MOUNT_DIR, ROOT, OpenRepository, read_parameters
from cernvm.fs.parameters.values import PREFIX, Parameters
from cernvm.fs.reader import ReaderSettings
from cernvm.fs.vfs import ViewSettings
from cernvm.net import NetSettings

DEFAULT_KEYS_DIR = "/etc/cvmfs/keys"

_MIB = 1024 * 1024
_UNLIMITED_BYTES = 1 << 62


def configured_settings(
    repository: str,
    *,
    home: Home,
    point: Path,
    root: PurePosixPath = ROOT,
    environment: Mapping[str, str] | None = None,
    open_repository: OpenRepository | None = None,
) -> MountSettings | None:
    """How `/etc/cvmfs` says that a repository is mounted; None when it names no server for it.

    Errors: `ConfigError` naming file and line; those of `settings_of`.
    """
    parameters = read_parameters(
        repository, root=root, environment=environment, open_repository=open_repository
    )
    if not parameters.is_set("CVMFS_SERVER_URL"):
        return None
    return settings_of(parameters, home=home, point=point, environment=environment or {})


def configured_names(parameters: Parameters) -> tuple[str, ...]:
    """The repositories that `CVMFS_REPOSITORIES` lists, each by its full name."""
    listed = parameters.text("CVMFS_REPOSITORIES").replace(",", " ").split()
    domain = parameters.text("CVMFS_DEFAULT_DOMAIN")
    full = (name if "." in name or not domain else f"{name}.{domain}" for name in listed)
    return tuple(dict.fromkeys(full))


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
    return MountSettings(
        ClientSettings(
            name,
            _net(parameters),
            _cache(parameters, home),
            _reader(parameters),
            _view(parameters, environment or {}),
        ),
        point,
        home.run,
    )


def default_point(parameters: Parameters) -> Path:
    """Where a repository is mounted that names no place: below `CVMFS_MOUNT_DIR`."""
    return Path(parameters.text("CVMFS_MOUNT_DIR", str(MOUNT_DIR))) / parameters.repository


def _net(parameters: Parameters) -> NetSettings:
    hosts = parameters.text("CVMFS_SERVER_URL")
    if not hosts:
        raise NotFoundError(
            "server known for",
            parameters.repository,
            advice="set CVMFS_SERVER_URL in /etc/cvmfs, or name one with --url",
        )
    return NetSettings(hosts, parameters.text("CVMFS_HTTP_PROXY", "DIRECT"))


def _cache(parameters: Parameters, home: Home) -> CacheSettings:
    quota_mib = parameters.number("CVMFS_QUOTA_LIMIT", 4000, least=-1)
    quota_bytes = quota_mib * _MIB if quota_mib >= 0 else _UNLIMITED_BYTES
    return CacheSettings(_cache_folder(parameters, home), quota_bytes)


def _cache_folder(parameters: Parameters, home: Home) -> Path:
    """Where the cache is: an ordinary user, who may not write there, keeps their own."""
    if parameters.is_set("CVMFS_CACHE_DIR"):
        folder = Path(parameters.text("CVMFS_CACHE_DIR"))
    elif parameters.is_set("CVMFS_CACHE_BASE"):
        folder = Path(parameters.text("CVMFS_CACHE_BASE")) / "cernvm"
    else:
        return home.cache
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return folder if folder.is_absolute() and os.access(there, os.W_OK) else home.cache


def _reader(parameters: Parameters) -> ReaderSettings:
    named = tuple(Path(part) for part in parameters.text("CVMFS_PUBLIC_KEY").split(":") if part)
    if named:
        return ReaderSettings(named)
    folder = Path(parameters.text("CVMFS_KEYS_DIR", DEFAULT_KEYS_DIR))
    keys = tuple(sorted(folder.glob("*.pub")))
    if not keys:
        raise NotFoundError(
            "public key known for",
            parameters.repository,
            advice=f"put one into {folder}, set CVMFS_PUBLIC_KEY, or name its file with --public-key",
        )
    return ReaderSettings(keys)


def _view(parameters: Parameters, environment: Mapping[str, str]) -> ViewSettings:
    """Only parameters fill in variant links: other variables of a process may be secrets."""
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    return ViewSettings({**given, **{name: parameters.text(name) for name in parameters}})
