"""A repository as its web server shows it: a store that can be read and not written, nor listed.

Who publishes through a gateway has no other store. Objects are believed by their digests; root documents are judged by
whoever reads them, as those of any other store.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NoReturn

from cernvm.core.clock import Deadline
from cernvm.core.digest import Digest
from cernvm.core.errors import (
    DeniedError,
    DigestMismatchError,
    FormatError,
    HostError,
    NotFoundError,
)
from cernvm.fs.format.objects import parse_object_path
from cernvm.fs.store.names import check_path
from cernvm.fs.store.port import ObjectStatus
from cernvm.net import ChainFetcher, NetSettings, fetch, open_fetcher

MAX_OBJECT_BYTES = 1 << 30
_DEADLINE_S = 600.0
_ABSENT = (403, 404, 410)


class WebStore:
    """An `ObjectStore` at `http://HOST/cvmfs/NAME`; it only reads."""

    lanes = 16

    def __init__(self, url: str) -> None:
        self.location = url
        self._fetcher: ChainFetcher = open_fetcher(NetSettings(hosts=url), "")
        # no store is closed: its connections end with it
        weakref.finalize(self, self._fetcher.close)

    def get(self, path: str) -> bytes:
        digest = _digest(check_path(path))

        def accept(data: bytes) -> bytes:
            if digest is not None and (got := digest.algorithm.digest(data)) != digest:
                raise DigestMismatchError(
                    expected=str(digest), got=str(got), source=f"{self.location}/{path}"
                )
            return data

        try:
            return fetch(
                self._fetcher,
                path,
                limit_bytes=MAX_OBJECT_BYTES,
                deadline=Deadline.after(_DEADLINE_S),
                accept=accept,
            )
        except HostError as error:
            if error.status in _ABSENT:
                raise NotFoundError("object", path) from None
            raise

    def has(self, path: str) -> bool:
        try:
            self.get(path)
        except NotFoundError:
            return False
        return True

    def put(self, path: str, data: bytes) -> None:  # noqa: ARG002
        self._refuse()

    def replace(self, path: str, data: bytes) -> None:  # noqa: ARG002
        self._refuse()

    def delete(self, *paths: str) -> None:  # noqa: ARG002
        self._refuse()

    def status(self, path: str) -> ObjectStatus | None:  # noqa: ARG002
        self._refuse()

    def paths(self, prefix: str = "") -> Iterator[str]:  # noqa: ARG002
        self._refuse()

    def listing(self, prefix: str = "") -> Iterator[tuple[str, ObjectStatus]]:  # noqa: ARG002
        self._refuse()

    def exclusive(self, wait_s: float = 0.0) -> AbstractContextManager[None]:  # noqa: ARG002
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise DeniedError(
            f"{self.location} is a web server: it can neither be written to nor listed",
            advice="do this where the repository is kept",
        )


def _digest(path: str) -> Digest | None:
    """The digest that an object's path names; None for a root document's."""
    try:
        return parse_object_path(path)[0]
    except FormatError:
        return None
