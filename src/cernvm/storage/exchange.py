"""One HTTP request to a storage service and its answer, on a connection of its own whose every wait is bounded.

Plain HTTP: the storage is reached inside a site.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeadlineError, HostError
from cernvm.net.connection import Timing, connection_for_one
from cernvm.storage.port import BLOCK_BYTES

_ADVICE = "check that the storage runs and can be reached from here"


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
    deadline: Deadline,
    silence_s: float,
    headers: Mapping[str, str],
    body: Iterable[bytes] | None = None,
) -> Iterator[Answer]:
    """Send a request to `origin` (`http://host:port`) and give its answer; the connection ends with the block.

    Errors: `HostError` for whatever is wrong with the server, its silence too, `DeadlineError` when the time is over.
    """
    timing = Timing(connect_s=silence_s, stall_s=silence_s, slow_bytes_per_s=0)
    connection = connection_for_one(origin, timing, deadline)
    try:
        # a server may refuse before it has read everything: its answer counts, not the broken pipe
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, target, body=body, headers=dict(headers))
        with connection.getresponse() as response:
            yield Answer(response)
    except TimeoutError:
        if deadline.has_passed:
            action = f"{method} {target.partition('?')[0]}"
            raise DeadlineError(action, after_s=round(deadline.budget_s, 1)) from None
        raise HostError(origin, f"silent for {silence_s:g} s", advice=_ADVICE) from None
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise HostError(origin, reason[:300], advice=_ADVICE) from error
    finally:
        connection.close()
