"""What a reader remembers about what went wrong, and the answer to "why can I not read this?"."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cernvm.core.digest import Digest
from cernvm.fs.cache import Usage
from cernvm.net import Attempt
from cernvm.net.failover import Route

MAX_FAILURES = 128
MAX_TRACED_OBJECTS = 1024
MAX_ATTEMPTS = 16


@dataclass(frozen=True, slots=True)
class Failure:
    """One action on a path that ended in an error."""

    path: bytes
    error: str
    advice: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CatalogState:
    """A catalog on the way to a path. Shape: `mountpoint` is empty for the root catalog."""

    mountpoint: bytes
    digest: Digest
    is_cached: bool


@dataclass(frozen=True, slots=True)
class ObjectState:
    """An object of a path's content; `attempts` are the last ones made for it, oldest first.

    One that is `on_its_way` is being fetched now.
    """

    object_path: str
    size_bytes: int
    is_cached: bool
    on_its_way: bool
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Why:
    """All that is known about a path without asking the network.

    Shape: `entry` says in words what stands there; `routes` would be tried next, in turn; `ahead` counts what is
    fetched before anybody asks; `revision_attempts` are those of the last look for a new revision.
    Units: `age_s` since the revision was published, None when unknown; `checked_s` since a server last confirmed it,
    None when none has since the mount; `whitelist_s` until the whitelist that vouched for it expires, None likewise.
    """

    repository: str
    path: bytes
    entry: str
    revision: int
    root_catalog: Digest
    age_s: float | None
    checked_s: float | None
    whitelist_s: float | None
    hosts: tuple[str, ...]
    proxy: str
    routes: tuple[Route, ...]
    cache: Usage
    ahead: Mapping[str, Any]
    catalogs: tuple[CatalogState, ...]
    objects: tuple[ObjectState, ...]
    failures: tuple[Failure, ...]
    revision_error: str
    revision_attempts: tuple[Attempt, ...]


class Trace:
    """The last failures and, per object, the last attempts. Concurrency: safe from any thread."""

    def __init__(self) -> None:
        self._failures: deque[Failure] = deque(maxlen=MAX_FAILURES)
        self._attempts: OrderedDict[str, tuple[Attempt, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def add_failure(self, failure: Failure) -> None:
        """Remember a failure; the oldest one is forgotten."""
        with self._lock:
            self._failures.append(failure)

    def add_attempts(self, object_path: str, attempts: Sequence[Attempt]) -> None:
        """Remember how an object was asked for."""
        with self._lock:
            self._attempts[object_path] = tuple(attempts[-MAX_ATTEMPTS:])
            self._attempts.move_to_end(object_path)
            if len(self._attempts) > MAX_TRACED_OBJECTS:
                self._attempts.popitem(last=False)

    def attempts(self, object_path: str) -> tuple[Attempt, ...]:
        """The last attempts for an object; empty when there were none lately."""
        with self._lock:
            return self._attempts.get(object_path, ())

    def failures(self, path: bytes | None = None) -> tuple[Failure, ...]:
        """The last failures, of one path or of all, newest first."""
        with self._lock:
            return tuple(f for f in reversed(self._failures) if path is None or f.path == path)
