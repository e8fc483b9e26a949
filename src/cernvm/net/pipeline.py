"""Many small requests over one connection, sent before the answers to those before them: one round trip for all.

Only in the background, and only with servers that have kept a connection open before. Where a connection breaks with
requests on it, its server gets them one by one from then on: not every proxy understands this part of HTTP/1.1.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeadlineError, HostError
from cernvm.net.asking import STALE, HttpAnswer, host_errors, request
from cernvm.net.failover import Route
from cernvm.net.lanes import Lanes
from cernvm.net.origin import Origin, origin_of
from cernvm.net.pool import Pool
from cernvm.net.terms import Terms
from cernvm.net.wire import EndedError, Wire

DISTRUST_S = 600.0

Failure = HostError | DeadlineError


@dataclass(slots=True)
class _Queue:
    """Requests still to be answered, each with its URL; the first `sent` of them are on the wire."""

    left: deque[tuple[str, bytes]]
    sent: int = 0


class Pipelines:
    """What is known of servers' ways with many requests at once. Concurrency: safe from any thread."""

    def __init__(self, pool: Pool, lanes: Lanes) -> None:
        self._pool = pool
        self._lanes = lanes
        self._alone_until_s: dict[
            Origin, float
        ] = {}  # one at a time until then; others not yet proved

    def answers(
        self, route: Route, paths: Sequence[str], terms: Terms, deadline: Deadline
    ) -> Iterator[HttpAnswer | Failure]:
        """The answer to each path, or why there is none; one is to be read before the next is asked for."""
        origin = origin_of(route)
        queue = _Queue(
            deque((f"{route.host}/{path}", request(origin, path, terms)) for path in paths)
        )
        while queue.left:
            count = len(queue.left)
            wire = self._pool.take_idle(origin, terms)
            is_kept = wire is not None
            try:
                yield from self._run(wire, origin, queue, terms, deadline)
            except (OSError, HostError, DeadlineError) as error:
                had_more = queue.sent > 1
                if had_more:
                    self._distrust(origin)
                may_repeat = had_more or (is_kept and isinstance(error, OSError))
                made_way = len(queue.left) < count
                if deadline.has_passed or not (may_repeat or made_way):
                    yield from _failures(queue, error)
            queue.sent = 0

    def _run(
        self,
        wire: Wire | None,
        origin: Origin,
        queue: _Queue,
        terms: Terms,
        deadline: Deadline,
    ) -> Iterator[HttpAnswer]:
        """Answers from one connection, as long as it lasts; what is left is still to be asked.

        Errors: `OSError` when it ended where an answer should begin; `HostError`, `DeadlineError`.
        """
        used = wire or self._pool.new(origin, terms)
        answer: HttpAnswer | None = None
        try:
            if wire is None:
                with host_errors(queue.left[0][0], used):
                    used.connect(deadline)
            while queue.left:
                used.watch.begin(deadline)
                answer = self._next_answer(used, origin, queue, terms, deadline)
                yield answer
                if not answer.leaves_wire_usable:
                    if queue.sent and not used.is_open:
                        self._distrust(origin)
                    return
                self._alone_until_s.setdefault(origin, 0.0)
        finally:
            # Whoever has read the last answer need not ask whether there is one more.
            if not queue.left and answer is not None and answer.leaves_wire_usable:
                self._pool.give_back(origin, used, terms)
            else:
                used.close()

    def _distrust(self, origin: Origin) -> None:
        """A connection broke, or fell silent, with requests on it: that may be the reason."""
        self._alone_until_s[origin] = time.monotonic() + DISTRUST_S

    def _next_answer(
        self, wire: Wire, origin: Origin, queue: _Queue, terms: Terms, deadline: Deadline
    ) -> HttpAnswer:
        is_alone = self._alone_until_s.get(origin, math.inf) > time.monotonic()
        depth = 1 if is_alone else self._lanes.depth()
        url = queue.left[0][0]
        with host_errors(url, wire, lets_out=(EndedError, *STALE)):
            more: list[bytes] = []
            if queue.sent <= depth * 3 // 4:
                more = [data for _, data in islice(queue.left, queue.sent, depth)]
                queue.sent += len(more)
                sent_s = time.monotonic()
                wire.send(b"".join(more))
            head = wire.receive_head()
            if queue.sent == 1 and more:
                self._lanes.waited(time.monotonic() - sent_s)
        queue.left.popleft()
        queue.sent -= 1
        return HttpAnswer(url, wire, head, self._lanes, terms, deadline)


def _failures(queue: _Queue, error: OSError | Failure) -> Iterator[Failure]:
    """What stopped one stops the rest."""
    while queue.left:
        url, _ = queue.left.popleft()
        yield HostError(url, str(error)) if isinstance(error, OSError) else error
