"""The chain as it is now: what was configured, with what had to be found out."""

from __future__ import annotations

from typing import Protocol

from cernvm.core.clock import Deadline
from cernvm.net.chain import Chain


class Roster(Protocol):
    """Gives each request its chain. Concurrency: safe from any thread."""

    def chain(self, deadline: Deadline) -> Chain:
        """The chain to use now; waits for what must be found out first, but never for what may be renewed later.

        Errors: `HostError` when no proxy could be found, `DeadlineError`.
        """

    @property
    def known(self) -> Chain:
        """The chain as far as it is known, without any wait."""


class FixedRoster:
    """A chain that stays as it is."""

    def __init__(self, chain: Chain) -> None:
        self.known = chain

    def chain(self, deadline: Deadline) -> Chain:  # noqa: ARG002
        return self.known
