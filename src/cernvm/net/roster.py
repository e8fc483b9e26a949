"""The chain as it is now: what was configured, with what had to be found out and is found out again after a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import Protocol

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeadlineError
from cernvm.core.log import fields
from cernvm.net.chain import Chain

FIND_OUT_S = 12.0  # the first time, when requests wait for it

log = logging.getLogger(__name__)


class Roster(Protocol):
    """Gives each request its chain. Concurrency: safe from any thread."""

    def chain(self, deadline: Deadline) -> Chain:
        """The chain to use now; waits for what must be found out first, but never for what may be renewed later.

        Errors: those of finding out; `DeadlineError`.
        """

    def configure(self, chain: Chain) -> None:
        """Begin anew from this one; what of it must be found out is."""

    @property
    def configured(self) -> Chain:
        """The chain before anything was found out."""

    @property
    def known(self) -> Chain:
        """The chain as far as it is known, without any wait."""


class FixedRoster:
    """A chain in which nothing has to be found out."""

    def __init__(self, chain: Chain) -> None:
        self.known = chain

    def chain(self, deadline: Deadline) -> Chain:  # noqa: ARG002
        return self.known

    def configure(self, chain: Chain) -> None:
        self.known = chain

    @property
    def configured(self) -> Chain:
        return self.known


class FoundRoster:
    """A chain that `find_out` makes of the configured one; it is asked again when `is_due`, in the background.

    `find_out` is called by one thread at a time; what it raises is told to those who wait the first time, and later
    leaves the chain as it was. A chain that `is_plain` has nothing to be found out.
    """

    def __init__(
        self,
        configured: Chain,
        find_out: Callable[[Chain, Deadline], Chain],
        *,
        is_due: Callable[[float], bool],
        is_plain: Callable[[Chain], bool] = lambda _: False,
    ) -> None:
        self._find_out = find_out
        self._is_due = is_due
        self._is_plain = is_plain
        self.configured = configured
        self._found = configured if is_plain(configured) else None
        self._found_at_s = 0.0
        self._search: Future[Chain] | None = None
        self._lock = threading.Lock()

    def chain(self, deadline: Deadline) -> Chain:
        found = self._found
        if found is not None:
            is_plain = found is self.configured
            if not is_plain and self._is_due(time.monotonic() - self._found_at_s):
                with suppress(RuntimeError):  # no thread is free: the next request tries again
                    self._begin()
            return found
        try:
            return self._begin().result(deadline.remaining_s)
        except FutureTimeoutError:
            action = "finding out which proxies and hosts to use"
            raise DeadlineError(action, after_s=deadline.budget_s) from None

    def configure(self, chain: Chain) -> None:
        with self._lock:
            self.configured = chain
            self._found = chain if self._is_plain(chain) else None
            self._search = None

    @property
    def known(self) -> Chain:
        return self._found or self.configured

    def _begin(self) -> Future[Chain]:
        with self._lock:
            if self._search is None:
                search: Future[Chain] = Future()
                arguments = (search, self.configured)
                # A daemon: it ends by its deadline, and nobody waits for it longer than they may.
                threading.Thread(target=self._run, args=arguments, daemon=True).start()
                self._search = search
            return self._search

    def _run(self, search: Future[Chain], configured: Chain) -> None:
        try:
            found = self._find_out(configured, Deadline.after(FIND_OUT_S))
        except CvmError as error:
            log.warning("fetch.chain_unknown", extra=fields(error=str(error)))
            self._finish(search, self._found)
            search.set_exception(error)
            return
        except BaseException as error:
            self._finish(search, self._found)  # or nobody would ever search again
            search.set_exception(error)
            raise
        self._finish(search, found)
        search.set_result(found)

    def _finish(self, search: Future[Chain], found: Chain | None) -> None:
        with self._lock:
            if self._search is search:
                self._search = None
                self._found = found
                self._found_at_s = time.monotonic()
