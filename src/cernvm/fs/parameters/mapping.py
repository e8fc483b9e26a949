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
from cernvm.fs.reader import ReaderSettings
from cernvm.fs.vfs import ViewSettings
from cernvm.net import NetSettings

_MIB = 1024 * 1024


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
    return NetSettings(hosts, parameters.text("CVMFS_HTTP_PROXY", "DIRECT"))


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
    return ReaderSettings(tuple(_key_file(key, place, home) for place, key in parameters.keys))


def _key_file(key: bytes, place: str, home: Home) -> Path:
    """A file that holds a key: where it was found, or a copy if that is in a repository that is not mounted."""
    if FolderDocuments().read(PurePosixPath(place)) == key:
        return Path(place)
    name = f"{hashlib.sha256(key).hexdigest()[:32]}.pub"
    copy = ensure_folder(home.keys / "configured") / name
    write_atomically(copy, key)
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
    return ViewSettings({**given, **{name: parameters.text(name) for name in parameters}})
