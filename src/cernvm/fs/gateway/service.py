"""What a gateway does, whoever asks and however: leases, payloads, commits.

Commits of a repository go one after the other, and each goes through the one flow of all revisions; payloads and leases
wait for none of them.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import ConflictError, InvalidInputError, LeaseLostError
from cernvm.core.home import Home
from cernvm.core.log import fields
from cernvm.fs.format.objects import MANIFEST_PATH
from cernvm.fs.gateway.access import Key, KeyFolder
from cernvm.fs.gateway.book import Answer, LeaseBook
from cernvm.fs.gateway.lease import Lease
from cernvm.fs.gateway.merging import Merge, true_base
from cernvm.fs.gateway.notices import Notices
from cernvm.fs.gateway.payload import Budget, Read, Received, missing_objects, receive_payload
from cernvm.fs.gateway.protocol import (
    API_VERSION,
    MAX_TTL_S,
    MIN_TTL_S,
    CommitRequest,
    LeaseRequest,
    PayloadRequest,
    check_version,
)
from cernvm.fs.publish.collecting import collect_garbage
from cernvm.fs.publish.publishing import Options, publish_changes
from cernvm.fs.publish.repository import (
    Repository,
    known_repositories,
    open_storage,
    read_repository,
)
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.collect import Collected, Keeping
from cernvm.fs.survey.reading import read_tags

log = logging.getLogger(__name__)

TTL_S = 7200
COMMIT_TTL_S = 3600  # a lease is good for at least so long from the moment that its commit begins
STORE_WAIT_S = 600.0  # while somebody publishes beside the gateway, or collects garbage


@dataclass(slots=True)
class Gateway:
    """The gateway of the repositories known in `home`. Concurrency: safe from several threads."""

    home: Home
    book: LeaseBook
    keys: KeyFolder
    ttl_s: int = TTL_S
    clock: Clock = field(default_factory=SystemClock)
    budget: Budget = field(default_factory=Budget)
    notices: Notices = field(init=False)
    _stores: dict[str, ObjectStore] = field(default_factory=dict)
    _commits: defaultdict[str, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock)
    )

    def __post_init__(self) -> None:
        self.notices = Notices(lambda name: self.store(name).get(MANIFEST_PATH), self.clock)

    def lease(self, request: LeaseRequest, key: Key) -> Lease:
        """Give a lease to who holds the key; `PathBusyError`, `DeniedError`, `NotFoundError`."""
        api_version = check_version(request)
        self._repository(request.path.repository)
        key.check(request.path)
        ttl_s = min(max(request.ttl_s or self.ttl_s, MIN_TTL_S), self.ttl_s, MAX_TTL_S)
        lease = self.book.acquire(
            request.path,
            key_id=key.id,
            hostname=request.hostname,
            ttl_s=ttl_s,
            api_version=api_version,
        )
        log.info("lease.opened", extra=fields(path=str(lease.path), key=key.id, ttl_s=ttl_s))
        return lease

    def held(self, token: str, key: Key) -> Lease:
        """The lease with this token, if it was given to this key; `LeaseLostError`."""
        lease = self.book.find(token)
        if lease.key_id != key.id:
            raise LeaseLostError("there is no such lease of this key")
        return lease

    def refresh(self, token: str, key: Key) -> Lease:
        """Make a lease last once more for its whole time."""
        self.held(token, key)
        return self.book.refresh(token)

    def cancel(self, token: str, key: Key) -> None:
        """Give a lease up."""
        lease = self.held(token, key)
        self.book.cancel(token)
        log.info("lease.cancelled", extra=fields(path=str(lease.path), key=key.id))

    def receive(self, request: PayloadRequest, read: Read, key: Key) -> Received:
        """Store what is sent under a lease, which lasts once more for its whole time."""
        lease = self.refresh(request.token, key)
        received = receive_payload(
            request, read, self.store(lease.path.repository), budget=self.budget
        )
        # a long payload must not make its lease run out
        self.refresh(request.token, key)
        return received

    def missing(self, token: str, paths: Sequence[str], key: Key) -> list[str]:
        """Which of these objects' paths need to be sent."""
        lease = self.held(token, key)
        return missing_objects(paths, self.store(lease.path.repository))

    def commit(self, token: str, request: CommitRequest, key: Key) -> Answer:
        """Merge what was published under a lease; returns the revision that has it, however often it is asked.

        Errors: `LeaseLostError`; `ConflictError` and `InvalidInputError` for what cannot be merged; those of
        `publish_changes`. The last revision then stands, and so does the lease.
        """
        if (known := self._known_answer(token, request)) is not None:
            return known
        lease = self.held(token, key)
        key.check(lease.path)
        with self._commits[lease.path.repository]:
            # the same request may have waited for its twin
            if (known := self._known_answer(token, request)) is not None:
                return known
            answer = self._commit(token, request)
            self.book.finish_commit(token, answer)
        self.notices.look(lease.path.repository)
        log.info("lease.committed", extra=fields(path=str(lease.path), revision=answer.revision))
        return answer

    def collect(self, name: str, keeping: Keeping, *, dry_run: bool) -> Collected:
        """Collect a repository's garbage; `ConflictError` while somebody has a lease on it."""
        repository, store = self._repository(name), self.store(name)
        if self.book.leases(name) and not dry_run:
            raise ConflictError(
                f"{name} is being published", advice="collect when no lease is open"
            )
        with self._commits[name]:
            return collect_garbage(
                repository,
                store,
                keeping=keeping,
                dry_run=dry_run,
                wait_s=STORE_WAIT_S,
                clock=self.clock,
            )

    def repositories(self) -> list[Repository]:
        """The repositories that are published through here."""
        return [one for one in known_repositories(self.home) if not one.gateway]

    def store(self, name: str) -> ObjectStore:
        """The store of a repository, opened once."""
        repository = self._repository(name)
        known = self._stores.get(repository.storage)
        # two threads may both open it; the first one's is kept
        return known or self._stores.setdefault(repository.storage, open_storage(repository))

    def _repository(self, name: str) -> Repository:
        repository = read_repository(self.home, name)
        if repository.gateway:
            raise InvalidInputError(f"{name} is published through another gateway")
        return repository

    def _known_answer(self, token: str, request: CommitRequest) -> Answer | None:
        known = self.book.answer(token)
        if known is None:
            return None
        if known.new_root != str(request.new_root):
            raise ConflictError("another root was committed under this lease")
        return known

    def _commit(self, token: str, request: CommitRequest) -> Answer:
        name = self.book.find(token).path.repository
        repository, store = self._repository(name), self.store(name)
        manifest = read_manifest(repository, store)
        lease, first_base = self.book.begin_commit(
            token, base_revision=manifest.revision, at_least_s=COMMIT_TTL_S
        )
        # an attempt whose answer was never written down may have made the tag
        tags = read_tags(manifest, store) if request.tag else ()
        is_made = any(tag.name == request.tag and tag.revision > first_base for tag in tags)
        old_root = request.old_root
        if lease.api_version < API_VERSION:
            old_root = true_base(request.new_root, store) or old_root
        merge = Merge(old_root, request.new_root, lease.path.path, store)
        published = publish_changes(
            repository,
            store,
            lambda draft, _: merge.put_into(draft),
            options=Options(
                tag="" if is_made else request.tag,
                description=request.description,
                wait_s=STORE_WAIT_S,
            ),
            clock=self.clock,
        )
        return Answer(str(request.new_root), published.revision, str(published.root_catalog))


def book_path(home: Home) -> Path:
    """The database of leases."""
    return home.gateway / "leases.db"


def key_folder(home: Home) -> KeyFolder:
    """The keys of publishers."""
    return KeyFolder(home.gateway / "keys")


def open_gateway(home: Home, *, ttl_s: int = TTL_S, clock: Clock | None = None) -> Gateway:
    """The gateway of a home; close its `book` at the end."""
    used = clock or SystemClock()
    book = LeaseBook(book_path(home), clock=used)
    return Gateway(home, book, key_folder(home), ttl_s=ttl_s, clock=used)


def leases_open_since(home: Home, name: str) -> datetime | None:
    """When the oldest open lease on a repository was given; None without any. Garbage that is younger is needed."""
    if not book_path(home).exists():
        return None
    book = LeaseBook(book_path(home))
    try:
        return min((lease.opened_at for lease in book.leases(name)), default=None)
    finally:
        book.close()
