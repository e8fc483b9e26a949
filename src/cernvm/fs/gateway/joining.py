"""Publishing what is kept elsewhere, through a gateway: how the store and the sink for it are opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cernvm.core.errors import (
    ExistsError,
    InvalidInputError,
    NotFoundError,
    PrerequisiteError,
)
from cernvm.core.home import Home, ensure_folder, write_atomically, write_private
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.gateway.access import read_key_file
from cernvm.fs.gateway.client import GatewayClient, check_url
from cernvm.fs.gateway.lease import LeasePath
from cernvm.fs.gateway.remote import GatewaySink, RemoteStore
from cernvm.fs.gateway.signature import format_key_file
from cernvm.fs.publish.keys import read_key
from cernvm.fs.publish.publishing import parse_path
from cernvm.fs.publish.repository import (
    Repository,
    forget_record,
    known_repositories,
    new_repository,
    open_storage,
    read_repository,
    write_record,
)
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.sink import RevisionSink
from cernvm.fs.publish.transaction import check_no_transaction
from cernvm.fs.store.opening import open_store
from cernvm.fs.store.port import ObjectStore


def join_repository(
    home: Home,
    name: str,
    *,
    gateway: str,
    public: str,
    key_file: Path,
    public_key: Path,
    objects: str = "",
) -> Repository:
    """Make a repository known that is kept elsewhere, with copies of the two keys; it must be served, and verify.

    Shape: `objects` is the location of its store, if this machine may write there.
    Errors: `ExistsError` for a known name, `TrustError` for a repository of another public key, `NotFoundError` where
    the store holds another repository than the one that is served.
    """
    if any(known.name == name for known in known_repositories(home)):
        raise ExistsError("repository", name, advice="it is published from here already")
    secret = read_key_file(key_file)
    repository = replace(
        new_repository(home, name, storage=public.rstrip("/")),
        gateway=check_url(gateway),
        objects=objects,
    )
    ensure_folder(repository.keys.folder, mode=0o700)
    write_atomically(repository.keys.public, read_key(public_key))
    manifest = read_manifest(repository, open_storage(repository))
    if objects and not open_store(objects).has(
        object_path(manifest.root_catalog, ObjectKind.CATALOG)
    ):
        raise NotFoundError("revision of the repository in the store", objects)
    write_private(repository.keys.gateway, format_key_file(secret))
    settings = replace(repository.settings, ttl_s=manifest.ttl_s, gc=manifest.garbage_collectable)
    joined = replace(repository, algorithm=manifest.root_catalog.algorithm, settings=settings)
    write_record(home, joined)
    return joined


def leave_repository(home: Home, name: str) -> None:
    """Forget a repository that is kept elsewhere, and the key for its gateway.

    Errors: `TransactionOpenError` while a transaction is open, whose changes would be lost.
    """
    repository = read_repository(home, name)
    check_no_transaction(repository)
    if not repository.gateway:
        raise InvalidInputError(f"{name} is kept here", advice=f"use cvm repo release {name}")
    repository.keys.gateway.unlink(missing_ok=True)
    forget_record(home, repository)


def open_publication(
    repository: Repository, at: str = "/"
) -> tuple[Repository, ObjectStore, RevisionSink | None]:
    """The repository, store and sink with which a change below `at` is published, through a gateway if it has one.

    Errors: `NotFoundError` and `DeniedError` about the key file.
    """
    if not repository.gateway:
        return repository, open_storage(repository), None
    client = GatewayClient(check_url(repository.gateway), read_key_file(repository.keys.gateway))
    if not repository.keys.public.is_file():
        raise PrerequisiteError(
            f"{repository.keys.public} is missing, by which {repository.name} is trusted",
            advice="ask the repository's keeper for it",
        )
    path = LeasePath(repository.name, parse_path(at))
    direct = open_store(repository.objects) if repository.objects else None
    store = RemoteStore(client, open_storage(repository), path, direct=direct)
    # the gateway packs: it has all objects beside it
    return replace(repository, has_packs=False), store, GatewaySink(repository, store)
