"""The fetcher: drives the rules of fail-over with exchanges until a sink accepts an answer."""

from __future__ import annotations

import logging
import random
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from cernvm.core.clock import Clock, Deadline, SystemClock
from cernvm.core.errors import CvmError, DeadlineError, FormatError, HostError, TrustError
from cernvm.core.log import fields
from cernvm.net.answers import judge, pour, retry_after_s
from cernvm.net.chain import Chain
from cernvm.net.connection import UnconnectedError
from cernvm.net.course import Course
from cernvm.net.failover import Journey, Route, Rules
from cernvm.net.link import Link
from cernvm.net.outcome import REDIRECTS, Outcome
from cernvm.net.port import Answer, Attempt, Exchange, Sink, Traffic, Want
from cernvm.net.probing import Probe, probe_hosts
from cernvm.net.redirect import MAX_REDIRECTS, next_stop
from cernvm.net.roster import FixedRoster, Roster
from cernvm.net.terms import Credentials, Terms, Urgency

_SHORT_S = 30.0  # with less time than this no route may use up all of it

log = logging.getLogger(__name__)

T = TypeVar("T")


class ChainFetcher:
    """A `Fetcher` that walks a chain of mirrors and proxies over any `Exchange`."""

    def __init__(
        self,
        chain: Chain | Roster,
        exchange: Exchange,
        *,
        rules: Rules | None = None,
        follow_redirects: bool = False,
        clock: Clock | None = None,
        source: random.Random | None = None,
    ) -> None:
        roster: Roster = FixedRoster(chain) if isinstance(chain, Chain) else chain
        self._exchange = exchange
        self._follows = follow_redirects
        self._clock = clock or SystemClock()
        self.course = Course(roster, rules or Rules(), self._clock, source or random.Random())
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
        errand = _Errand(
            path, open_sink, limit_bytes, deadline, Terms(urgency, byte_range, credentials)
        )
        journey: Journey | None = self.course.depart(path, deadline)
        refusal: CvmError | None = None
        failure: CvmError | None = None
        while journey is not None and not deadline.has_passed:
            started_s = self._clock.monotonic()
            ended = self._try(journey, errand)
            self._note(journey, errand, ended, started_s, on_attempt)
            if not isinstance(ended, _Failure):
                self.course.arrive(journey)
                return ended
            failure = ended.error
            if errand.terms.in_background:
                raise failure
            if isinstance(failure, TrustError | FormatError):
                refusal = failure
            asked_s = failure.retry_after_s if isinstance(failure, HostError) else 0.0
            journey = self.course.advance(journey, ended.outcome, asked_s, deadline)
        if failure is None or deadline.has_passed:
            last = f" (at last: {failure})" if failure else ""
            failure = DeadlineError(f"fetching {path}{last}", after_s=deadline.budget_s)
            self.course.give_up(journey)
        raise refusal or failure

    def _try(self, journey: Journey, errand: _Errand[T]) -> T | _Failure:
        route, path = journey.route, errand.path
        url = f"{route.host}/{path}"
        terms = errand.terms
        if terms.credentials is not None and not route.host.startswith("https://"):
            return _Failure(HostError(url, "credentials are sent over https only"), Outcome.HOST)
        if journey.no_cache:
            terms = replace(terms, no_cache=True)
        if journey.chain.has_choice and (left_s := errand.deadline.remaining_s) < _SHORT_S:
            terms = replace(terms, patience_s=left_s / 2)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                with self._exchange.get(
                    route, path, deadline=errand.deadline, terms=terms
                ) as answer:
                    if not self._leads_on(answer, terms):
                        return self._take(answer, route, errand, f"{route.host}/{path}")
                    route, path = next_stop(
                        route, path, answer.headers.get("location", ""), answer.status
                    )
        except (TrustError, FormatError) as refusal:
            return _Failure(refusal, Outcome.REFUSED)
        except DeadlineError as stall:
            return _Failure(stall, Outcome.STALLED)
        except HostError as broken:
            return _Failure(broken, _blame(broken, route))
        return _Failure(HostError(url, "it redirects in a circle"), Outcome.HOST)

    def _leads_on(self, answer: Answer, terms: Terms) -> bool:
        return self._follows and answer.status in REDIRECTS and terms.credentials is None

    def _take(self, answer: Answer, route: Route, errand: _Errand[T], url: str) -> T | _Failure:
        blamed = judge(answer, errand.terms.byte_range, via_proxy=route.via_proxy)
        if blamed is not None:
            error = HostError(url, _reason(answer.status), status=answer.status)
            error.retry_after_s = retry_after_s(answer)
            return _Failure(error, blamed)
        return pour(answer, errand.open_sink(), url, errand.limit_bytes, on_received=self._count)

    def _count(self, received_bytes: int) -> None:
        with self._lock:
            total = self._traffic.received_bytes + received_bytes
            self._traffic = replace(self._traffic, received_bytes=total)

    def _note(
        self,
        journey: Journey,
        errand: _Errand[T],
        ended: object,
        started_s: float,
        on_attempt: Callable[[Attempt], None] | None,
    ) -> None:
        took_s = self._clock.monotonic() - started_s
        error = ended.error if isinstance(ended, _Failure) else ended
        reason = str(error) if isinstance(error, CvmError) else ""
        in_background = errand.terms.in_background
        with self._lock:
            before = self._traffic
            self._traffic = Traffic(
                before.requests + 1,
                before.failures + (bool(reason) and not in_background),
                before.received_bytes,
                before.busy_s + took_s,
            )
        if not reason and on_attempt is None:
            return
        url, proxy = f"{journey.host}/{errand.path}", journey.proxy
        if reason and in_background:
            log.debug("fetch.not_ahead", extra=fields(url=url, proxy=proxy, error=reason))
        elif reason:
            log.warning("fetch.failed", extra=fields(url=url, proxy=proxy, error=reason))
        if on_attempt is not None:
            on_attempt(Attempt(url, proxy, reason, took_s))

    def fetch_many(self, wants: Sequence[Want[T]], *, deadline: Deadline) -> Iterator[T | CvmError]:
        if not wants:
            return
        try:
            journey = self.course.depart(wants[0].path, deadline)
        except CvmError as error:
            yield from (error for _ in wants)
            return
        paths = [want.path for want in wants]
        if self.course.is_sharded:  # they may be kept by different proxies
            for want in wants:
                fetched = self._fetch_one(want, deadline)
                yield fetched
            return
        terms = Terms(Urgency.BACKGROUND)
        with closing(self._exchange.get_many(journey.route, paths, deadline=deadline)) as answers:
            for want, answer in zip(wants, answers, strict=True):
                errand = _Errand(want.path, want.open_sink, want.limit_bytes, deadline, terms)
                started_s = self._clock.monotonic()
                ended: T | CvmError
                if isinstance(answer, HostError | DeadlineError):
                    ended = answer
                else:
                    ended = self._take_ahead(answer, journey.route, errand)
                self._note(journey, errand, ended, started_s, None)
                yield ended

    def _take_ahead(self, answer: Answer, route: Route, errand: _Errand[T]) -> T | CvmError:
        try:
            taken = self._take(answer, route, errand, f"{route.host}/{errand.path}")
        except CvmError as error:
            return error
        return taken.error if isinstance(taken, _Failure) else taken

    def _fetch_one(self, want: Want[T], deadline: Deadline) -> T | CvmError:
        try:
            return self.fetch_into(
                want.path,
                want.open_sink,
                limit_bytes=want.limit_bytes,
                deadline=deadline,
                urgency=Urgency.BACKGROUND,
            )
        except CvmError as error:
            return error

    @property
    def link(self) -> Link:
        return self._exchange.link

    @property
    def hosts(self) -> tuple[str, ...]:
        return self.course.hosts

    @property
    def proxy(self) -> str:
        return self.course.proxy

    @property
    def routes(self) -> tuple[Route, ...]:
        return self.course.routes

    def probe_hosts(self, path: str, deadline: Deadline) -> list[Probe]:
        """Ask every mirror for `path`, and use them in the order of their answers from now on."""
        probes = probe_hosts(self._exchange, self.hosts, self.proxy, path, deadline)
        self.course.order_hosts([probe.host for probe in probes])
        return probes

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    def close(self) -> None:
        self._exchange.close()


@dataclass(frozen=True, slots=True)
class _Errand(Generic[T]):
    """What one call asks for, whatever the route."""

    path: str
    open_sink: Callable[[], Sink[T]]
    limit_bytes: int
    deadline: Deadline
    terms: Terms


@dataclass(frozen=True, slots=True)
class _Failure:
    """How one attempt failed, and what that says of its route."""

    error: CvmError
    outcome: Outcome


def _blame(broken: HostError, route: Route) -> Outcome:
    cause = broken.__cause__
    if isinstance(cause, UnconnectedError):
        return Outcome.ABSENT if cause.is_late else Outcome.UNREACHED
    if isinstance(cause, FormatError | ssl.SSLError):
        # it would say the same again
        return Outcome.PROXY if route.via_proxy else Outcome.HOST
    if broken.status == 0:
        return Outcome.BROKEN
    return Outcome.REFUSED if broken.status == 200 else Outcome.HOST


def _reason(status: int) -> str:
    words = {404: "it has no such object", 429: "it is too busy", 403: "it denies access"}
    return f"{words.get(status, 'the server answered badly')} (HTTP {status})"
