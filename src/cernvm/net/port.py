"""The port through which everything of a repository is fetched, and the port below it, one GET on one route."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeadlineError, HostError
from cernvm.net.failover import Route
from cernvm.net.link import Link
from cernvm.net.terms import PLAIN, Credentials, Terms, Urgency

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of asking one host once; `error` is empty when it answered as it should."""

    url: str
    proxy: str
    error: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a fetcher has done since it was made."""

    requests: int = 0
    failures: int = 0
    received_bytes: int = 0
    busy_s: float = 0.0


class Sink(Protocol[T_co]):
    """Takes one answer's body and decides whether it is what was asked for.

    The fetcher calls `write` for each part, then `finish`, and in any case `discard` at the end.
    """

    def write(self, data: bytes, /) -> None:
        """Take the next part. Errors: as `finish`, as soon as it is known."""

    def finish(self) -> T_co:
        """The value of the complete body. Errors: `TrustError` or `FormatError` refuse it: other hosts are asked."""

    def discard(self) -> None:
        """Let go of what was written; what `finish` gave stays."""


@dataclass(frozen=True, slots=True)
class Want(Generic[T]):
    """One of many documents fetched ahead."""

    path: str
    open_sink: Callable[[], Sink[T]]
    limit_bytes: int


class Fetcher(Protocol):
    """Fetches a path below a repository's root from whichever mirror has it. Concurrency: safe from any thread."""

    def fetch_into(
        self,
        path: str,
        open_sink: Callable[[], Sink[T]],
        *,
        limit_bytes: int,
        deadline: Deadline,
        on_attempt: Callable[[Attempt], None] | None = None,
        urgency: Urgency = Urgency.FOREGROUND,
        byte_range: tuple[int, int] | None = None,
        credentials: Credentials | None = None,
    ) -> T:
        """Fetch `path` into a fresh sink per attempt, until one accepts.

        A refused body is asked for once more past all caches, then from the next mirror. In the background a document
        is asked for once, on the route that works now, and no host is blamed for what comes of it.
        `byte_range`: only these bytes (first, last) go into the sink; a host that sends others is passed by.
        `credentials` go to hosts with https only.
        Errors: the `TrustError` or `FormatError` of a refused answer if there was one, else `DeadlineError` or
        `HostError`; anything else that a sink raises (a full disk) ends the attempts at once.
        """

    def fetch_many(self, wants: Sequence[Want[T]], *, deadline: Deadline) -> Iterator[T | CvmError]:
        """Fetch ahead, in the background: for each want in its order what its sink gave, or why there is nothing.

        Much cheaper than as many single requests: they share one connection and its round trips. The iterator must be
        used up or closed; at most one thread may use it.
        """

    @property
    def hosts(self) -> tuple[str, ...]:
        """The mirrors, the one in use first."""

    @property
    def proxy(self) -> str:
        """The proxy in use, or `DIRECT`."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """What a request would try now, in turn."""

    @property
    def link(self) -> Link:
        """What the way to the hosts is like, as far as it was measured."""

    @property
    def traffic(self) -> Traffic:
        """Counts for whoever watches."""

    def close(self) -> None:
        """Close all connections, those of requests under way when they end; the fetcher may still be used."""


class Answer(Protocol):
    """One HTTP answer whose body is still to be read."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, their names in lower case."""

    def parts(self) -> Iterator[bytes]:
        """The body as it arrives. Errors: as `Exchange.get`; a body that ends early is a `HostError`."""


class Exchange(Protocol):
    """One GET on one route. Concurrency: safe from any thread."""

    def get(
        self, route: Route, path: str, *, deadline: Deadline, terms: Terms = PLAIN
    ) -> AbstractContextManager[Answer]:
        """Ask; the answer must be read within the context.

        Errors: `HostError` with status 0 for a connection that cannot be made or breaks, `DeadlineError` for a host
        that is silent or too slow, long before `deadline` perhaps.
        """

    def get_many(
        self, route: Route, paths: Sequence[str], *, deadline: Deadline
    ) -> Generator[Answer | HostError | DeadlineError, None, None]:
        """Ask for several in the background: for each path in its order its answer, or why there is none.

        An answer is to be read before the next is asked for; what stops the reading of one does not stop the next.
        """

    @property
    def link(self) -> Link:
        """What was measured of the way to the hosts."""

    def close(self) -> None:
        """Close idle connections."""
