"""One HTTP request and its answer, each wait of which ends at the request's deadline or after a silence.

A server that sends one byte at a time, in its headers or its body, gains nothing by it. Plain HTTP: the storage is
reached inside a site.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from cernvm.core.errors import DeadlineError, HostError
from cernvm.storage.port import BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take in all, and how long the other side may be silent."""

    total_s: float
    silence_s: float


class Answer:
    """A server's status and headers, and its body in blocks."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.getheaders()
        }

    def blocks(self) -> Iterator[bytes]:
        """The body as it arrives. Errors: `http.client.IncompleteRead` when less came than was promised."""
        while block := self._response.read1(BLOCK_BYTES):
            yield block
        if self._response.length:
            raise http.client.IncompleteRead(b"", self._response.length)


@contextmanager
def exchange(
    method: str,
    origin: str,
    target: str,
    *,
    patience: Patience,
    headers: Mapping[str, str],
    body: Iterable[bytes] | None = None,
) -> Iterator[Answer]:
    """Send a request to `origin` (`host:port`) and give its answer; the connection ends with the block.

    Errors: `HostError` for whatever is wrong with the server, `DeadlineError` when the time is over.
    """
    connection = _Connection(origin, patience)
    started = time.monotonic()
    try:
        # a server may refuse before it has read everything: its answer counts, not the broken pipe
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, target, body=body, headers=dict(headers))
        with connection.getresponse() as response:
            yield Answer(response)
    except TimeoutError:
        if time.monotonic() - started >= patience.total_s:
            action = f"{method} {target.partition('?')[0]}"
            raise DeadlineError(action, after_s=round(patience.total_s, 1)) from None
        silence = f"silent for {patience.silence_s:g} s"
        raise HostError(f"http://{origin}", silence, advice=_ADVICE) from None
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise HostError(f"http://{origin}", reason[:300], advice=_ADVICE) from error
    finally:
        connection.close()


_ADVICE = "check that the storage runs and can be reached from here"


class _Connection(http.client.HTTPConnection):
    def __init__(self, origin: str, patience: Patience) -> None:
        super().__init__(origin, timeout=min(patience.total_s, patience.silence_s))
        self._patience = patience

    def connect(self) -> None:
        end = time.monotonic() + self._patience.total_s
        plain = socket.create_connection((self.host, self.port), self.timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = _TimedSocket(plain, end, self._patience.silence_s)


class _TimedSocket(socket.socket):
    """A socket whose every wait ends at `end`, or after `silence_s` if that is sooner."""

    def __init__(self, plain: socket.socket, end: float, silence_s: float) -> None:
        super().__init__(fileno=plain.detach())
        self._end = end
        self._silence_s = silence_s

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self._arm()
        return super().recv_into(*arguments, **options)

    def sendall(self, data: Any, flags: int = 0) -> None:
        left = memoryview(data).cast("B")
        while left:
            self._arm()
            left = left[super().send(left, flags) :]

    def _arm(self) -> None:
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.settimeout(min(left_s, self._silence_s))
