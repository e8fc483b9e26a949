"""What this machine knows of a repository that it passes through: a small TOML file.

Shape: `$CVM_HOME/through/NAME.toml` with the keys `urls`, `public_keys`, `storage`, `limit_bytes`, `proxies`,
`stale_s`, and where there are some `second_keys`. Keys are kept beside it, in `NAME.keys`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from cernvm.core.config import read_toml
from cernvm.core.errors import ExistsError, InvalidInputError, NotFoundError
from cernvm.core.home import Home, check_repository_name, ensure_folder, write_atomically
from cernvm.fs.replicate.keys import drop_keys, keep_keys

DEFAULT_LIMIT_BYTES = 20 << 30
DEFAULT_STALE_S = 7 * 86400
LEAST_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class PassThrough:
    """A repository that is passed through.

    Shape: `urls` are places of the same repository, the one to be asked first in front; any of `public_keys` (files)
    may vouch for it; with `second_keys`, any of these must have signed as well; `storage` is the folder of what is
    kept, at most `limit_bytes` of it.
    Units: `stale_s` is how long the last revision is served while no upstream answers as it should.
    """

    name: str
    storage: Path
    urls: tuple[str, ...]
    public_keys: tuple[Path, ...]
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    proxies: str = "DIRECT"
    stale_s: int = DEFAULT_STALE_S
    second_keys: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.limit_bytes < LEAST_LIMIT_BYTES:
            raise InvalidInputError(
                f"{self.limit_bytes} bytes are too few for what passes through",
                advice=f"keep at least {LEAST_LIMIT_BYTES >> 20} MB",
            )


@dataclass(frozen=True, slots=True)
class _Record:
    storage: Path
    urls: tuple[str, ...]
    public_keys: tuple[Path, ...]
    limit_bytes: int
    proxies: str
    stale_s: int
    second_keys: tuple[Path, ...] = ()


def known_pass_throughs(home: Home) -> list[PassThrough]:
    """All that have a record, by name."""
    names = sorted(path.stem for path in home.through.glob("*.toml"))
    return [read_pass_through(home, name) for name in names]


def is_pass_through(home: Home, name: str) -> bool:
    """Whether this machine passes a repository of that name through; no for what is no name."""
    return "/" not in name and (home.through / f"{name}.toml").is_file()


def read_pass_through(home: Home, name: str) -> PassThrough:
    """The one with this name; `NotFoundError` where it has no record, `ConfigError` for a damaged one."""
    path = _path(home, name)
    if not path.is_file():
        raise NotFoundError("pass-through replica", name, advice="cvm repo pass-through ls")
    record = read_toml(path, _Record)
    return PassThrough(
        name,
        record.storage,
        record.urls,
        record.public_keys,
        record.limit_bytes,
        record.proxies,
        record.stale_s,
        record.second_keys,
    )


def write_pass_through(home: Home, one: PassThrough) -> PassThrough:
    """Make it known, and keep its keys; gives it as it is known from then on.

    Errors: `ExistsError` where a repository or a replica of that name is here; those of `read_public_keys`.
    """
    for folder in (home.repositories, home.replicas):
        if (folder / f"{one.name}.toml").exists():
            raise ExistsError("repository", one.name, advice="it is kept here already")
    folder = _keys_folder(ensure_folder(home.through), one.name)
    known = replace(
        one,
        public_keys=keep_keys(folder, one.public_keys),
        second_keys=keep_keys(folder, one.second_keys),
    )
    values = {
        "storage": str(one.storage),
        "urls": list(one.urls),
        "public_keys": [str(key) for key in known.public_keys],
        "second_keys": [str(key) for key in known.second_keys],
        "limit_bytes": one.limit_bytes,
        "proxies": one.proxies,
        "stale_s": one.stale_s,
    }
    # JSON strings, lists of them and numbers are TOML as well
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    write_atomically(_path(home, one.name), text.encode())
    drop_keys(folder, besides=(*known.public_keys, *known.second_keys))
    return known


def forget_pass_through(home: Home, name: str) -> None:
    """Remove the record and the keys; what was kept stays."""
    _path(home, name).unlink(missing_ok=True)
    drop_keys(_keys_folder(home.through, name))


def _path(home: Home, name: str) -> Path:
    return home.through / f"{check_repository_name(name)}.toml"


def _keys_folder(through: Path, name: str) -> Path:
    return through / f"{name}.keys"
