"""Publishing what is kept elsewhere, through a gateway: how the store and the sink for it are opened."""

from __future__ import annotations

from dataclasses import replace

from cernvm.core.errors import PrerequisiteError
from cernvm.fs.gateway.access import read_key_file
from cernvm.fs.gateway.client import GatewayClient, check_url
from cernvm.fs.gateway.lease import LeasePath, parse_path
from cernvm.fs.gateway.remote import GatewaySink, RemoteStore
from cernvm.fs.publish.repository import Repository, open_storage
from cernvm.fs.publish.sink import RevisionSink
from cernvm.fs.store.port import ObjectStore


def open_publication(
    repository: Repository, at: str = "/"
) -> tuple[Repository, ObjectStore, RevisionSink | None]:
    """The repository, store and sink with which a change below `at` is published, through a gateway if it has one.

    Errors: `NotFoundError` and `DeniedError` about the key file.
    """
    if not repository.gateway:
        return repository, open_storage(repository), None
    key = repository.keys.folder / f"{repository.name}.gw"
    client = GatewayClient(check_url(repository.gateway), read_key_file(key))
    if not repository.keys.public.is_file():
        raise PrerequisiteError(
            f"{repository.keys.public} is missing, by which {repository.name} is trusted",
            advice="ask the repository's keeper for it",
        )
    path = LeasePath(repository.name, parse_path(at))
    store = RemoteStore(client, open_storage(repository), path)
    # the gateway packs: it has all objects beside it
    return replace(repository, has_packs=False), store, GatewaySink(repository, store)
