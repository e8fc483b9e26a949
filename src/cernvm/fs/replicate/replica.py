"""What this machine knows of a repository that it replicates: a small TOML file per replica.

Shape: `$CVM_HOME/replicas/NAME.toml` with the keys `urls`, `public_keys`, `storage`, and where they are not usual
`proxies`, `paths`, `tags`, `history`, `packs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cernvm.core.config import read_toml
from cernvm.core.errors import ExistsError, NotFoundError
from cernvm.core.home import Home, check_repository_name, ensure_folder, write_atomically
from cernvm.fs.format.objects import MANIFEST_PATH
from cernvm.fs.replicate.scope import ALL_TAGS, Scope
from cernvm.fs.store.opening import open_store
from cernvm.fs.store.port import DELETED_AT_ONCE, ObjectStore


@dataclass(frozen=True, slots=True)
class Replica:
    """A repository that is copied to this machine's `storage`, a location as `open_store` takes it.

    Shape: `urls` are places of the same repository, the one to be asked first in front; any of `public_keys` (files)
    may vouch for it; `proxies` as in `http://p1:3128|http://p2:3128;DIRECT`.
    """

    name: str
    storage: str
    urls: tuple[str, ...]
    public_keys: tuple[Path, ...]
    scope: Scope = field(default_factory=Scope)
    proxies: str = "DIRECT"


@dataclass(frozen=True, slots=True)
class _Record:
    storage: str
    urls: tuple[str, ...]
    public_keys: tuple[Path, ...]
    proxies: str = "DIRECT"
    paths: tuple[str, ...] = ()
    tags: tuple[str, ...] = ALL_TAGS
    history: int = 0
    packs: bool = True


def known_replicas(home: Home) -> list[Replica]:
    """All replicas with a record, by name."""
    names = sorted(path.stem for path in home.replicas.glob("*.toml"))
    return [read_replica(home, name) for name in names]


def is_replica(home: Home, name: str) -> bool:
    """Whether this machine has a replica of that name."""
    return _record_path(home, check_repository_name(name)).is_file()


def read_replica(home: Home, name: str) -> Replica:
    """The replica with this name; `NotFoundError` where it has no record, `ConfigError` for a damaged one."""
    path = _record_path(home, check_repository_name(name))
    if not path.is_file():
        raise NotFoundError(
            "replica", name, advice=f"make it: cvm repo replicate URL --name {name}"
        )
    record = read_toml(path, _Record)
    return Replica(
        name=name,
        storage=record.storage,
        urls=record.urls,
        public_keys=record.public_keys,
        scope=Scope(record.paths, record.tags, record.history, record.packs),
        proxies=record.proxies,
    )


def write_replica(home: Home, replica: Replica) -> None:
    """Make the replica known. Errors: `ExistsError` where a repository of that name is published from here."""
    if (home.repositories / f"{replica.name}.toml").exists():
        raise ExistsError(
            "repository", replica.name, advice="it is published from here; replicate it elsewhere"
        )
    ensure_folder(home.replicas)
    scope = replica.scope
    values = {
        "storage": replica.storage,
        "urls": list(replica.urls),
        "public_keys": [str(key.absolute()) for key in replica.public_keys],
        "proxies": replica.proxies,
        "paths": list(scope.paths),
        "tags": list(scope.tags),
        "history": scope.history,
        "packs": scope.has_packs,
    }
    # JSON strings, lists of them, numbers and booleans are TOML as well
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    write_atomically(_record_path(home, replica.name), text.encode())


def forget_replica(home: Home, replica: Replica) -> None:
    """Remove the record; what was copied stays."""
    _record_path(home, replica.name).unlink(missing_ok=True)


def remove_replica(home: Home, replica: Replica) -> None:
    """Delete what was copied, the manifest first, since a half-deleted replica must not be served; then the record."""
    store = open_replica(replica)
    with store.exclusive():
        store.delete(MANIFEST_PATH)
        for some in _batches(store.paths(), DELETED_AT_ONCE):
            store.delete(*some)
    forget_replica(home, replica)


def open_replica(replica: Replica) -> ObjectStore:
    """The store in which the replica lies."""
    return open_store(replica.storage)


def read_public_keys(keys: Sequence[Path]) -> list[bytes]:
    """The keys in some files. Errors: `NotFoundError`."""
    found = []
    for key in keys:
        try:
            found.append(key.read_bytes())
        except FileNotFoundError:
            raise NotFoundError("public key", str(key)) from None
    return found


def _record_path(home: Home, name: str) -> Path:
    return home.replicas / f"{name}.toml"


def _batches(paths: Iterable[str], size: int) -> Iterator[tuple[str, ...]]:
    left = iter(paths)
    while some := tuple(islice(left, size)):
        yield some
