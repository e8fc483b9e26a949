"""What this machine knows of a repository that it publishes: a small TOML file per repository.

Shape: `$CVM_HOME/repositories/NAME.toml` with the keys `storage`, `keys`, `hash`, `compression`, `packs`, and
the section `[settings]` of `cernvm.fs.publish.settings`, which names what differs from the defaults.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, fields
from pathlib import Path

from cernvm.core.config import read_toml
from cernvm.core.digest import Algorithm
from cernvm.core.errors import ConfigError, NotFoundError
from cernvm.core.home import Home, check_repository_name, ensure_folder, write_atomically
from cernvm.fs.format.compress import Compression
from cernvm.fs.publish.keys import Keys
from cernvm.fs.publish.settings import Settings
from cernvm.fs.store.opening import open_store
from cernvm.fs.store.port import ObjectStore


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that can be published from here.

    Shape: `storage` is the location of its store: the folder that a web server exports as `/cvmfs/NAME`, or what else
    `open_store` takes; `index` the publisher's memory of files that it has stored, which may be deleted at any time;
    `has_packs` whether it is published with packs; `gateway` the address through which this machine publishes what is
    kept elsewhere, empty for what it publishes by itself; `objects` the location of the store there, where this machine
    may put objects into it, else empty.
    """

    name: str
    storage: str
    keys: Keys
    algorithm: Algorithm
    compression: Compression
    index: Path
    has_packs: bool = True
    settings: Settings = field(default_factory=Settings)
    gateway: str = ""
    objects: str = ""

    @property
    def drafts(self) -> Path:
        """Where revisions are made before they are stored; what is there belongs to a publisher at work, or to none."""
        return self.index.with_name(f"{self.name}.drafts")


@dataclass(frozen=True, slots=True)
class _Record:
    storage: str
    keys: Path
    hash: str
    compression: str
    packs: bool = True
    gateway: str = ""
    objects: str = ""
    settings: Settings = field(default_factory=Settings)


def open_storage(repository: Repository) -> ObjectStore:
    """The store that holds a repository."""
    return open_store(repository.storage)


def known_repositories(home: Home) -> list[Repository]:
    """All repositories with a record, by name."""
    if not home.repositories.is_dir():
        return []
    names = sorted(path.stem for path in home.repositories.glob("*.toml"))
    return [read_repository(home, name) for name in names]


def read_repository(home: Home, name: str) -> Repository:
    """The repository with this name; `NotFoundError` where it has no record, `ConfigError` for a damaged one."""
    path = _record_path(home, check_repository_name(name))
    if not path.exists():
        raise NotFoundError("repository", name, advice=_other_place(home, name))
    record = read_toml(path, _Record)
    try:
        algorithm = Algorithm(record.hash)
        compression = Compression[record.compression.upper()]
    except (ValueError, KeyError) as exc:
        raise ConfigError(f"{exc} is not known", source=str(path)) from None
    return Repository(
        name=name,
        storage=record.storage,
        keys=Keys(record.keys, name),
        algorithm=algorithm,
        compression=compression,
        index=_index_path(home, name),
        has_packs=record.packs,
        gateway=record.gateway,
        objects=record.objects,
        settings=record.settings,
    )


def new_repository(
    home: Home,
    name: str,
    *,
    storage: Path | str | None = None,
    keys: Path | None = None,
    algorithm: Algorithm = Algorithm.SHA1,
    compression: Compression = Compression.ZLIB,
    settings: Settings | None = None,
) -> Repository:
    """The value of a repository that does not exist yet; `create_repository` makes it."""
    check_repository_name(name)
    location = str(home.storage / name if storage is None else storage)
    return Repository(
        name=name,
        storage=location if "://" in location else str(Path(location).absolute()),
        keys=Keys((keys or home.keys).absolute(), name),
        algorithm=algorithm,
        compression=compression,
        index=_index_path(home, name),
        settings=settings or Settings(),
    )


def write_record(home: Home, repository: Repository) -> None:
    """Make the repository known."""
    ensure_folder(home.repositories)
    values = {
        "storage": repository.storage,
        "keys": str(repository.keys.folder),
        "hash": repository.algorithm.value,
        "compression": repository.compression.name.lower(),
    }
    # a JSON string is a TOML basic string as well
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    text += f"packs = {json.dumps(repository.has_packs)}\n"
    if repository.gateway:
        text += f"gateway = {json.dumps(repository.gateway)}\n"
    if repository.objects:
        text += f"objects = {json.dumps(repository.objects)}\n"
    chosen = {
        one.name: value
        for one in fields(Settings)
        if (value := getattr(repository.settings, one.name)) != one.default
    }
    if chosen:
        text += "\n[settings]\n"
        text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in chosen.items())
    write_atomically(_record_path(home, repository.name), text.encode())


def forget_record(home: Home, repository: Repository) -> None:
    """Remove the record and the index; storage and keys stay."""
    _record_path(home, repository.name).unlink(missing_ok=True)
    for suffix in ("", "-wal", "-shm", "-journal"):
        repository.index.with_name(repository.index.name + suffix).unlink(missing_ok=True)
    shutil.rmtree(repository.drafts, ignore_errors=True)


def _other_place(home: Home, name: str) -> str:
    """What to do about a repository that is not published from here."""
    for folder, kind in ((home.replicas, "replica"), (home.through, "pass-through replica")):
        if (folder / f"{name}.toml").is_file():
            return f"here is a {kind} of it; do this where it is published"
    return f"make it: cvm repo create {name}, or see what is here: cvm repo ls"


def _record_path(home: Home, name: str) -> Path:
    return home.repositories / f"{name}.toml"


def _index_path(home: Home, name: str) -> Path:
    return home.repositories / f"{name}.index"
