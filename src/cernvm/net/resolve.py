"""Names to addresses, with an end to the wait: the system's resolver alone may take half a minute."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from cernvm.core.clock import Deadline

KEEP_S = 60.0

Address = tuple[socket.AddressFamily, Any]


class Resolver:
    """Remembers addresses for a minute and asks for each name once at a time. Concurrency: safe from any thread."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, list[Address]]] = {}
        self._asked: dict[tuple[str, int], Future[list[Address]]] = {}
        self._lock = threading.Lock()

    def addresses(self, host: str, port: int, deadline: Deadline) -> list[Address]:
        """Where `host` is, best first. Errors: `OSError`, `TimeoutError` past the deadline."""
        if (literal := _literal(host, port)) is not None:
            return [literal]
        key = (host, port)
        with self._lock:
            known = self._known.get(key)
            if known is not None and time.monotonic() - known[0] < KEEP_S:
                return known[1]
            answer = self._asked.get(key)
            if answer is None:
                answer = self._asked[key] = Future()
                # A daemon: nothing can interrupt the system's resolver, and nobody waits for it longer than allowed.
                threading.Thread(target=self._ask, args=(key, answer), daemon=True).start()
        try:
            return answer.result(deadline.remaining_s)
        except FutureTimeoutError:
            raise TimeoutError(f"the name {host} was not resolved in time") from None

    def _ask(self, key: tuple[str, int], answer: Future[list[Address]]) -> None:
        try:
            found = socket.getaddrinfo(*key, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            with self._lock:
                del self._asked[key]
            answer.set_exception(error if isinstance(error, OSError) else OSError(str(error)))
            return
        addresses: list[Address] = [(row[0], row[4]) for row in found]
        with self._lock:
            self._known[key] = (time.monotonic(), addresses)
            del self._asked[key]
        answer.set_result(addresses)


def _literal(host: str, port: int) -> Address | None:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return (socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))
