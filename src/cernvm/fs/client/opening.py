"""Opening one repository's client, and closing all of it however that ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeniedError, InvalidInputError, NotFoundError, SignatureError
from cernvm.fs.cache import Breadcrumb, Cache, open_breadcrumbs, open_cache
from cernvm.fs.client.blacklists import blacklist_of
from cernvm.fs.client.facts import facts_of
from cernvm.fs.client.settings import ClientSettings
from cernvm.fs.format.signature import MAX_PEM_BYTES, check_public_key, check_second_key
from cernvm.fs.peers import Peers, open_peers
from cernvm.fs.reader import Repository, open_repository
from cernvm.fs.vfs import Magic, Recorder, View
from cernvm.net import Fetcher, open_external_fetcher, open_fetcher

OPENING_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Client:
    """An open repository, as a file system and as what is behind it."""

    view: View
    repository: Repository
    cache: Cache
    fetcher: Fetcher
    peers: Peers


@contextmanager
def open_client(
    settings: ClientSettings, *, shown: Breadcrumb | None = None, source: Fetcher | None = None
) -> Iterator[Client]:
    """Open a repository, at once if a process before has `shown` it; all is closed at the end.

    With a `source` all is fetched by it, whatever hosts the settings name.
    Errors: those of `open_repository`; `NotFoundError` for a key file, `SpaceError` for the cache.
    """
    keys = [_read_key(path) for path in settings.reader.public_keys]
    second_keys = [_read_key(path, check_second_key) for path in settings.reader.second_keys]
    with ExitStack() as stack:
        fetcher = source or open_fetcher(settings.net, settings.repository)
        stack.callback(fetcher.close)
        external = open_external_fetcher(settings.net, settings.repository)
        if external is not None:
            stack.callback(external.close)
        folder = settings.cache.folder
        kept_for_peers = folder.with_name(f"{folder.name}-peers")
        peers = stack.enter_context(
            open_peers(settings.peers, settings.repository, fetcher, kept_for_peers)
        )
        cache = open_cache(settings.cache)
        stack.callback(cache.close)
        repository = open_repository(
            settings.repository,
            fetcher=peers.fetcher,
            cache=cache,
            breadcrumbs=open_breadcrumbs(settings.cache),
            master_keys=keys,
            blacklist=blacklist_of(settings.reader.blacklists),
            external=external,
            second_keys=second_keys,
            deadline=Deadline.after(OPENING_DEADLINE_S),
            pin=settings.reader.pin,
            shown=shown,
            ahead=settings.reader.ahead,
        )
        stack.callback(repository.close)
        if settings.reader.max_ttl_s is not None:
            repository.max_ttl_s = settings.reader.max_ttl_s
        view = View(
            repository,
            variables=settings.view.variables if settings.view.expands_links else None,
            owners=settings.view.owners,
            recorder=stack.enter_context(_recorder(settings.view.record)),
            magic=Magic(repository, settings.view.magic, facts_of(settings, keys)),
        )
        yield Client(view, repository, cache, fetcher, peers)


@contextmanager
def _recorder(path: Path | None) -> Iterator[Recorder | None]:
    """What notes first reads, if they are wanted."""
    if path is None:
        yield None
        return
    recorder = Recorder(path)
    try:
        yield recorder
    finally:
        recorder.close()


def _read_key(path: Path, check: Callable[[bytes], None] = check_public_key) -> bytes:
    try:
        with path.open("rb") as file:
            pem = file.read(MAX_PEM_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError("public key", str(path), advice="name it with --public-key") from None
    except OSError as error:
        raise DeniedError(f"the public key {path} cannot be read: {error.strerror}") from error
    try:
        check(pem)
    except SignatureError as error:
        advice = "name a repository's .pub file, in PEM, with --public-key"
        raise InvalidInputError(f"{path} is no public key: {error.what}", advice=advice) from None
    return pem
