"""What this machine knows of a repository that it replicates: a small TOML file per replica.

Shape: `$CVM_HOME/replicas/NAME.toml` with the keys `urls`, `public_keys`, `storage`, and where they are not usual
`second_keys`, `proxies`, `peers`, `peers_listen`, `peers_secret`, `paths`, `tags`, `history`, `packs`. Keys are kept
beside it, in `NAME.keys`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from cernvm.core.config import read_toml
from cernvm.core.errors import ExistsError, NotFoundError
from cernvm.core.home import Home, check_repository_name, ensure_folder, write_atomically
from cernvm.fs.format.objects import MANIFEST_PATH
from cernvm.fs.peers.settings import PeerSettings, format_peers, said_peers
from cernvm.fs.replicate.keys import drop_keys, keep_keys
from cernvm.fs.replicate.scope import ALL_TAGS, Scope
from cernvm.fs.store.opening import open_store
from cernvm.fs.store.port import DELETED_AT_ONCE, ObjectStore


@dataclass(frozen=True, slots=True)
class Replica:
    """A repository that is copied to this machine's `storage`, a location as `open_store` takes it.

    Shape: `urls` are places of the same repository, the one to be asked first in front; any of `public_keys` (files)
    may vouch for it; with `second_keys`, any of these must have signed as well; `proxies` as in
    `http://p1:3128|http://p2:3128;DIRECT`; `peers` are asked for objects before these.
    """

    name: str
    storage: str
    urls: tuple[str, ...]
    public_keys: tuple[Path, ...]
    scope: Scope = field(default_factory=Scope)
    proxies: str = "DIRECT"
    second_keys: tuple[Path, ...] = ()
    peers: PeerSettings = field(default_factory=PeerSettings)


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
    second_keys: tuple[Path, ...] = ()
    peers: str = "off"
    peers_listen: str = ""
    peers_secret: Path | None = None


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
        second_keys=record.second_keys,
        peers=said_peers(PeerSettings(), record.peers, record.peers_listen, record.peers_secret),
    )


def write_replica(home: Home, replica: Replica) -> Replica:
    """Make the replica known, and keep its keys; gives it as it is known from then on.

    Errors: `ExistsError` where a repository of that name is published from here; those of `read_public_keys`.
    """
    if (home.repositories / f"{replica.name}.toml").exists():
        raise ExistsError(
            "repository", replica.name, advice="it is published from here; replicate it elsewhere"
        )
    folder = _keys_folder(ensure_folder(home.replicas), replica.name)
    known = replace(
        replica,
        public_keys=keep_keys(folder, replica.public_keys),
        second_keys=keep_keys(folder, replica.second_keys),
    )
    write_atomically(_record_path(home, replica.name), _format_record(known).encode())
    drop_keys(folder, besides=(*known.public_keys, *known.second_keys))
    return known


def forget_replica(home: Home, replica: Replica) -> None:
    """Remove the record and the keys; what was copied stays."""
    _record_path(home, replica.name).unlink(missing_ok=True)
    drop_keys(_keys_folder(home.replicas, replica.name))


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


def _format_record(replica: Replica) -> str:
    scope, peers = replica.scope, replica.peers
    values = {
        "storage": replica.storage,
        "urls": list(replica.urls),
        "public_keys": [str(key) for key in replica.public_keys],
        "second_keys": [str(key) for key in replica.second_keys],
        "proxies": replica.proxies,
        "peers": format_peers(peers),
        "peers_listen": peers.listen,
        "paths": list(scope.paths),
        "tags": list(scope.tags),
        "history": scope.history,
        "packs": scope.has_packs,
    }
    if peers.secret is not None:
        values["peers_secret"] = str(peers.secret)
    # JSON strings, lists of them, numbers and booleans are TOML as well
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def _record_path(home: Home, name: str) -> Path:
    return home.replicas / f"{name}.toml"


def _keys_folder(replicas: Path, name: str) -> Path:
    return replicas / f"{name}.keys"


def _batches(paths: Iterable[str], size: int) -> Iterator[tuple[str, ...]]:
    left = iter(paths)
    while some := tuple(islice(left, size)):
        yield some
