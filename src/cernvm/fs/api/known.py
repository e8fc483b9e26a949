"""What can be named without asking any server: repositories known here, and paths in catalogs that are at hand."""

from __future__ import annotations

import stat
from collections.abc import Mapping

from cernvm.core.home import Home, check_repository_name
from cernvm.fs.api.files import Files
from cernvm.fs.cache import CacheSettings, ContentKey, open_breadcrumbs, open_cache
from cernvm.fs.client import ClientSettings, open_client
from cernvm.fs.mount import recorded_mounts
from cernvm.fs.reader import Pin, ReaderSettings
from cernvm.net import NetSettings

_NO_SERVER = "http://127.0.0.1:1"
_WAIT_S = 0.1
_BREADCRUMB = "cvmfschecksum."


def known_names(home: Home, *, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Repositories made here, configured, mounted, or read before, by name. Errors: `ConfigError`."""
    from cernvm.fs.parameters import configured_names  # noqa: PLC0415  # for this question only

    folders = (home.repositories, home.replicas)
    made = {path.stem for folder in folders for path in folder.glob("*.toml")}
    mounted = {record.repository for record in recorded_mounts(home.run)}
    noted = {path.name.removeprefix(_BREADCRUMB) for path in home.cache.glob(f"{_BREADCRUMB}*")}
    read = {name for name in noted if not name.startswith("pin-")}
    return tuple(sorted({*made, *mounted, *read, *configured_names(environment=environment)}))


def names_below(home: Home, name: str, folder: str) -> list[str]:
    """The names in a folder of a repository as it was read last, directories with a slash at the end.

    Names that are no UTF-8, or cannot be printed in a line, are left out. Empty where that is not at hand.
    Errors: those of opening it.
    """
    settings = CacheSettings(home.cache)
    seen = open_breadcrumbs(settings).last_seen(check_repository_name(name))
    if seen is None:
        return []
    cache = open_cache(settings)
    try:
        if cache.open(ContentKey(seen.root_catalog)) is None:
            return []
    finally:
        cache.close()
    held = ReaderSettings((), pin=Pin(root_catalog=str(seen.root_catalog)))
    client = ClientSettings(name, NetSettings(_NO_SERVER), settings, held)
    with open_client(client) as opened:
        listed = Files(opened.view, wait_s=_WAIT_S).listing(folder)
    return [
        item.name.decode() + ("/" if stat.S_ISDIR(item.attributes.mode) else "")
        for item in listed
        if _is_text(item.name)
    ]


def _is_text(name: bytes) -> bool:
    try:
        return name.decode().isprintable()
    except UnicodeDecodeError:
        return False
