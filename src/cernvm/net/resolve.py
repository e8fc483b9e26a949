"""Names to addresses, with an end to the wait: the system's resolver alone may take half a minute."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from cernvm.core.clock import Deadline

KEEP_S = 60.0  # the system's resolver does not say for how long an answer holds
KEEP_FAILURE_S = 5.0
MAX_KNOWN = 1000  # redirects may lead anywhere
RESOLVER_FILE = "/etc/resolv.conf"

Address = tuple[socket.AddressFamily, Any]
Answer = list[Address] | OSError


class Resolver:
    """Remembers addresses for a while, and asks for each name once at a time. Concurrency: safe from any thread.

    `prefer_ip` 4 or 6 puts addresses of this kind first, 0 leaves them in the system's order. With `is_roaming` all is
    forgotten when the machine's resolver file changes: it has come to another network.
    """

    def __init__(
        self,
        *,
        keep_s: float = KEEP_S,
        prefer_ip: int = 0,
        is_roaming: bool = False,
        resolver_file: str = RESOLVER_FILE,
    ) -> None:
        self.keep_s = keep_s
        self._preferred = {4: socket.AF_INET, 6: socket.AF_INET6}.get(prefer_ip)
        self._resolver_file = resolver_file if is_roaming else ""
        self._network = self.network
        self._known: dict[tuple[str, int], tuple[float, Answer]] = {}
        self._asked: dict[tuple[str, int], Future[list[Address]]] = {}
        self._lock = threading.Lock()

    def addresses(self, host: str, port: int, deadline: Deadline) -> list[Address]:
        """Where `host` is, best first. Errors: `OSError`, `TimeoutError` past the deadline."""
        if (literal := _literal(host, port)) is not None:
            return [literal]
        key = (host, port)
        with self._lock:
            known = self._remembered(key)
            if isinstance(known, OSError):
                raise known
            if known is not None:
                return known
            answer = self._asked.get(key) or self._begin(key)
        try:
            return answer.result(deadline.remaining_s)
        except FutureTimeoutError:
            raise TimeoutError(f"the name {host} was not resolved in time") from None

    @property
    def network(self) -> tuple[int, int] | None:
        """Another value whenever the machine has come to another network; None where that is not looked at."""
        if not self._resolver_file:
            return None
        try:
            seen = os.stat(self._resolver_file)
        except OSError:
            return None
        return seen.st_mtime_ns, seen.st_ino

    def _remembered(self, key: tuple[str, int]) -> Answer | None:
        network = self.network
        if network != self._network or len(self._known) > MAX_KNOWN:
            self._known.clear()
            self._network = network
        known = self._known.get(key)
        if known is None:
            return None
        keep_s = KEEP_FAILURE_S if isinstance(known[1], OSError) else self.keep_s
        return known[1] if time.monotonic() - known[0] < keep_s else None

    def _begin(self, key: tuple[str, int]) -> Future[list[Address]]:
        answer: Future[list[Address]] = Future()
        # A daemon: nothing can interrupt the system's resolver, and nobody waits for it longer than allowed.
        thread = threading.Thread(target=self._ask, args=(key, answer), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads for this process
            raise OSError(errno.EAGAIN, f"the name {key[0]} cannot be resolved: {error}") from error
        self._asked[key] = answer
        return answer

    def _ask(self, key: tuple[str, int], answer: Future[list[Address]]) -> None:
        try:
            rows = socket.getaddrinfo(*key, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            failure = error if isinstance(error, OSError) else OSError(str(error))
            self._learn(key, failure)
            answer.set_exception(failure)
            return
        found: list[Address] = [(row[0], row[4]) for row in rows]
        found.sort(key=lambda address: address[0] is not self._preferred)
        self._learn(key, found)
        answer.set_result(found)

    def _learn(self, key: tuple[str, int], answer: Answer) -> None:
        with self._lock:
            self._known[key] = (time.monotonic(), answer)
            del self._asked[key]


def _literal(host: str, port: int) -> Address | None:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return (socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))
