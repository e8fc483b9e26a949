"""The fetcher: drives the rules of fail-over with exchanges until a sink accepts an answer."""

from __future__ import annotations

import logging
import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from cernvm.core.clock import Clock, Deadline, SystemClock
from cernvm.core.errors import (
    CvmError,
    DeadlineError,
    FormatError,
    HostError,
    TrustError,
)
from cernvm.core.log import fields
from cernvm.net.chain import Chain
from cernvm.net.failover import Journey, Outcome, Standing, outcome_of
from cernvm.net.link import Link
from cernvm.net.port import Answer, Attempt, Exchange, Fetcher, Sink, Traffic, Want
from cernvm.net.terms import Credentials, Terms, Urgency

MAX_REPEAT_WAIT_S = 0.5

log = logging.getLogger(__name__)

T = TypeVar("T")


class ChainFetcher:
    """A `Fetcher` that walks a chain of mirrors and proxies over any `Exchange`."""

    def __init__(self, chain: Chain, exchange: Exchange, *, clock: Clock | None = None) -> None:
        self._chain = chain
        self._exchange = exchange
        self._clock = clock or SystemClock()
        self._standing = Standing()
        self._traffic = Traffic()
        self._lock = threading.Lock()

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
        terms = Terms(urgency, byte_range, credentials)
        journey: Journey | None = self._standing.journey(self._chain, self._clock.monotonic())
        refusal: CvmError | None = None
        failure: CvmError = DeadlineError(f"fetching {path}", after_s=deadline.budget_s)
        while journey is not None and not deadline.has_passed:
            started = self._clock.monotonic()
            ended = self._try(journey, path, open_sink, limit_bytes, deadline, terms)
            self._note(journey, path, ended, started, on_attempt, terms)
            if not isinstance(ended, _Failure):
                self._arrive(journey)
                return ended
            failure = ended.error
            if terms.in_background:
                raise failure
            if isinstance(failure, TrustError | FormatError):
                refusal = failure
            journey = journey.after(ended.outcome)
            if journey is not None and journey.repeated:
                self._wait_before_repeat(deadline)
        if deadline.has_passed:
            failure = DeadlineError(f"fetching {path}", after_s=deadline.budget_s)
        raise refusal or failure

    def _try(
        self,
        journey: Journey,
        path: str,
        open_sink: Callable[[], Sink[T]],
        limit_bytes: int,
        deadline: Deadline,
        terms: Terms,
    ) -> T | _Failure:
        route = journey.route
        url = f"{route.host}/{path}"
        if terms.credentials is not None and not route.host.startswith("https://"):
            return _Failure(HostError(url, "credentials are sent over https only"), Outcome.HOST)
        try:
            asked = replace(terms, no_cache=True) if journey.no_cache else terms
            with self._exchange.get(route, path, deadline=deadline, terms=asked) as answer:
                blamed = outcome_of(answer.status, answer.headers, via_proxy=route.via_proxy)
                if terms.byte_range is not None and _brings(answer, terms.byte_range):
                    blamed = None
                if blamed is not None:
                    error = HostError(url, _reason(answer.status), status=answer.status)
                    return _Failure(error, blamed)
                return self._pour(answer, open_sink(), url, limit_bytes)
        except (TrustError, FormatError) as refusal:
            return _Failure(refusal, Outcome.REFUSED)
        except DeadlineError as stall:
            return _Failure(stall, Outcome.STALLED)
        except HostError as broken:
            return _Failure(broken, Outcome.REFUSED if broken.status == 200 else Outcome.BROKEN)

    def _pour(self, answer: Answer, sink: Sink[T], url: str, limit_bytes: int) -> T:
        """Move the body into the sink; a body over the limit is refused before it fills anything."""
        too_large = HostError(url, f"the answer is larger than {limit_bytes} bytes", status=200)
        received = 0
        try:
            if _announced_bytes(answer) > limit_bytes:
                raise too_large
            for part in answer.parts():
                received += len(part)
                if received > limit_bytes:
                    raise too_large
                sink.write(part)
            return sink.finish()
        finally:
            sink.discard()
            with self._lock:
                total = self._traffic.received_bytes + received
                self._traffic = replace(self._traffic, received_bytes=total)

    def _note(
        self,
        journey: Journey,
        path: str,
        ended: object,
        started: float,
        on_attempt: Callable[[Attempt], None] | None,
        terms: Terms,
    ) -> None:
        took_s = self._clock.monotonic() - started
        failed = isinstance(ended, _Failure)
        reason = str(ended.error) if isinstance(ended, _Failure) else ""
        url, proxy = f"{journey.route.host}/{path}", journey.route.proxy
        with self._lock:
            self._traffic = replace(
                self._traffic,
                requests=self._traffic.requests + 1,
                failures=self._traffic.failures + (failed and not terms.in_background),
                busy_s=self._traffic.busy_s + took_s,
            )
        if failed and terms.in_background:
            log.debug("fetch.not_ahead", extra=fields(url=url, proxy=proxy, error=reason))
        elif failed:
            log.warning("fetch.failed", extra=fields(url=url, proxy=proxy, error=reason))
        if on_attempt is not None:
            on_attempt(Attempt(url, proxy, reason, took_s))

    def _arrive(self, journey: Journey) -> None:
        standing = self._standing
        if (journey.host, journey.group, journey.member) == (
            standing.host,
            standing.group,
            standing.member,
        ):
            return
        with self._lock:
            self._standing = self._standing.arrived(journey, self._clock.monotonic())
        route = journey.route
        log.warning("fetch.route_changed", extra=fields(host=route.host, proxy=route.proxy))

    def _wait_before_repeat(self, deadline: Deadline) -> None:
        self._clock.sleep(min(random.uniform(0, MAX_REPEAT_WAIT_S), deadline.remaining_s))

    def fetch_many(self, wants: Sequence[Want[T]], *, deadline: Deadline) -> Iterator[T | CvmError]:
        for want in wants:
            try:
                yield self.fetch_into(
                    want.path,
                    want.open_sink,
                    limit_bytes=want.limit_bytes,
                    deadline=deadline,
                    urgency=Urgency.BACKGROUND,
                )
            except CvmError as error:
                yield error

    @property
    def link(self) -> Link:
        return self._exchange.link

    @property
    def hosts(self) -> tuple[str, ...]:
        first = self._standing.host
        return self._chain.hosts[first:] + self._chain.hosts[:first]

    @property
    def proxy(self) -> str:
        standing = self._standing
        return self._chain.proxy_groups[standing.group][standing.member]

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    def close(self) -> None:
        self._exchange.close()


@dataclass(frozen=True, slots=True)
class _Failure:
    """How one attempt failed, and what that says of its route."""

    error: CvmError
    outcome: Outcome


def _brings(answer: Answer, byte_range: tuple[int, int]) -> bool:
    """Whether an answer holds exactly the bytes that were asked for; the length of the whole is not our business."""
    first, last = byte_range
    shape = re.fullmatch(
        r"bytes (\d+)-(\d+)/(?:\d+|\*)", answer.headers.get("content-range", "")[:80]
    )
    return answer.status == 206 and shape is not None and shape.groups() == (str(first), str(last))


def _announced_bytes(answer: Answer) -> int:
    length = answer.headers.get("content-length", "")
    return int(length[:20]) if length.isdecimal() else 0


def _reason(status: int) -> str:
    words = {404: "it has no such object", 429: "it is too busy", 403: "it denies access"}
    return f"{words.get(status, 'the server answered badly')} (HTTP {status})"


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
        lambda: _Collected(accept),
        limit_bytes=limit_bytes,
        deadline=deadline,
        on_attempt=on_attempt,
    )


class _Collected(Sink[T]):
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
