"""Small documents, fetched whole into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cernvm.core.clock import Deadline
from cernvm.net.port import Attempt, Fetcher, Sink

T = TypeVar("T")


def fetch(
    fetcher: Fetcher,
    path: str,
    *,
    limit_bytes: int,
    deadline: Deadline,
    accept: Callable[[bytes], T],
    on_attempt: Callable[[Attempt], None] | None = None,
) -> T:
    """Fetch a small document whole and return what `accept` makes of it.

    Errors: as `Fetcher.fetch_into`; `accept` refuses a document by `TrustError` or `FormatError`.
    """
    return fetcher.fetch_into(
        path,
        lambda: Collected(accept),
        limit_bytes=limit_bytes,
        deadline=deadline,
        on_attempt=on_attempt,
    )


class Collected(Sink[T]):
    """A sink that keeps the body in memory."""

    def __init__(self, accept: Callable[[bytes], T]) -> None:
        self._accept = accept
        self._parts: list[bytes] = []

    def write(self, data: bytes, /) -> None:
        self._parts.append(data)

    def finish(self) -> T:
        return self._accept(b"".join(self._parts))

    def discard(self) -> None:
        self._parts.clear()
