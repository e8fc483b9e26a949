"""The port of a publisher's object store: named bytes that appear whole or not at all.

Two kinds of names: objects never change once they exist (their digest is their name); root documents (manifest,
whitelist, reflog) are replaced, and a replaced one may only refer to objects that are durable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol


class ObjectStore(Protocol):
    """Where a repository's files lie; paths are those of `cernvm.fs.format.objects`.

    Concurrency: safe from several threads. Errors: `InvalidInputError` for a path that leaves the store,
    `SpaceError`, `DeniedError`, `HostError`.
    """

    def put(self, path: str, data: bytes) -> None:
        """Store an object; it is visible whole, and durable by the next `replace`."""

    def replace(self, path: str, data: bytes) -> None:
        """Make all earlier `put`s durable, then replace a root document atomically and durably."""

    def get(self, path: str) -> bytes:
        """The bytes at a path; `NotFoundError` where there are none."""

    def has(self, path: str) -> bool:
        """Whether a path exists."""

    def paths(self, prefix: str = "") -> Iterator[str]:
        """All visible paths that begin with `prefix`, in no order."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the store for one publisher; `TransactionOpenError` at once while another holds it.

        A holder that dies lets go; what it left half-written is swept by the next one.
        """
