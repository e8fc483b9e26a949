"""The port of a publisher's object store: named bytes that appear whole or not at all.

Two kinds of names: objects never change once they exist (their digest is their name); root documents (manifest,
whitelist, reflog) are replaced, and a replaced one may only refer to objects that are durable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

DELETED_AT_ONCE = 1000  # paths that `delete` is best given together


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """What a store knows of a path without reading it; `modified_at` is when it was last written, in UTC."""

    size_bytes: int
    modified_at: datetime


class ObjectStore(Protocol):
    """Where a repository's files lie; paths are those of `cernvm.fs.format.objects`.

    Shape: `location` is what `open_store` takes, so that another process can open the same store; empty for one that
    lives in this process only. `lanes` is how many requests are worth having in flight.
    Concurrency: safe from several threads. Errors: `InvalidInputError` for a path that leaves the store,
    `SpaceError`, `DeniedError`, `HostError`, `DeadlineError`.
    """

    @property
    def location(self) -> str: ...

    @property
    def lanes(self) -> int: ...

    def put(self, path: str, data: bytes) -> None:
        """Store an object; it is visible whole, and durable by the next `replace`, whichever process put it."""

    def replace(self, path: str, data: bytes) -> None:
        """Make all earlier `put`s durable, then replace a root document atomically and durably.

        Errors: also `LeaseLostError`, where the store's holder is not the caller any more.
        """

    def get(self, path: str) -> bytes:
        """The bytes at a path; `NotFoundError` where there are none."""

    def has(self, path: str) -> bool:
        """Whether a path exists."""

    def status(self, path: str) -> ObjectStatus | None:
        """The size of a path and when it was written; None where there is nothing."""

    def delete(self, *paths: str) -> None:
        """Remove paths; those that are not there do not matter. Cheapest with `DELETED_AT_ONCE`.

        Errors: also `LeaseLostError`, as `replace`.
        """

    def paths(self, prefix: str = "") -> Iterator[str]:
        """All visible paths that begin with `prefix`, in no order."""

    def listing(self, prefix: str = "") -> Iterator[tuple[str, ObjectStatus]]:
        """All visible paths that begin with `prefix`, with their status, in no order."""

    def exclusive(self, wait_s: float = 0.0) -> AbstractContextManager[None]:
        """Hold the store for one publisher; `TransactionOpenError` where another one holds it for `wait_s` to come.

        A holder that dies lets go; what it left half-written is swept by the next one.
        """
