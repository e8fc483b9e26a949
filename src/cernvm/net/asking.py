"""One request as it goes out, one answer as it comes in, and what goes wrong with either in our own words."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeadlineError, FormatError, HostError, InvalidInputError
from cernvm.net.connection import UnconnectedError
from cernvm.net.head import Head
from cernvm.net.lanes import Lanes
from cernvm.net.origin import Origin
from cernvm.net.terms import Terms
from cernvm.net.wire import Wire

STALE = (
    BrokenPipeError,
    ConnectionResetError,
)  # with `EndedError`: how a kept connection shows that it had ended

_HEADERS = "User-Agent: cernvm\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
_NO_CACHE = "Cache-Control: no-cache\r\nPragma: no-cache\r\n"


def request(origin: Origin, path: str, terms: Terms) -> bytes:
    """One GET. Errors: `InvalidInputError` for a path that is none, with which more than a path could be said."""
    if not (path.isascii() and path.isprintable() and " " not in path):
        raise InvalidInputError(f"{path!r} is no path of a URL")
    text = f"GET {origin.prefix}{path} HTTP/1.1\r\nHost: {origin.authority}\r\n{_HEADERS}"
    if terms.no_cache:
        text += _NO_CACHE
    if terms.byte_range is not None:
        text += "Range: bytes={}-{}\r\n".format(*terms.byte_range)
    if terms.credentials is not None and terms.credentials.bearer_token:
        text += f"Authorization: Bearer {terms.credentials.bearer_token}\r\n"
    return (text + "\r\n").encode("ascii")


@dataclass(slots=True)
class HttpAnswer:
    """One HTTP answer on a live connection."""

    url: str
    wire: Wire
    head: Head
    lanes: Lanes
    terms: Terms
    deadline: Deadline
    was_read: bool = False

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.head.headers

    @property
    def leaves_wire_usable(self) -> bool:
        """Whether another answer can follow on the same connection."""
        return self.was_read and self.head.keeps_open

    def parts(self) -> Iterator[bytes]:
        received = 0
        with host_errors(self.url, self.wire):
            for part in self.wire.body(self.head):
                received += len(part)
                self.lanes.received(len(part))
                yield part
                if self.terms.in_background:
                    self.lanes.make_way(self.deadline)
        self.was_read = True
        self.lanes.finished(self.terms, received)


@contextmanager
def host_errors(
    url: str, wire: Wire, *, lets_out: tuple[type[OSError], ...] = ()
) -> Iterator[None]:
    """Turn what sockets, TLS and HTTP parsing raise into our errors; the connection is of no use then.

    `lets_out`: what a kept connection raises when the server had just closed it is for the caller.
    """
    try:
        yield
    except BaseException as error:
        wire.close()
        if isinstance(error, OSError | EOFError | FormatError) and not isinstance(error, lets_out):
            raise _host_error(url, wire.watch.timing.stall_s, error) from error
        raise


def _host_error(url: str, stall_s: float, error: Exception) -> HostError | DeadlineError:
    if isinstance(error, UnconnectedError):
        return HostError(url, str(error))
    if isinstance(error, TimeoutError):
        reason = f" ({error})" if str(error) else ""
        return DeadlineError(f"waiting for {url}{reason}", after_s=stall_s)
    if isinstance(error, ssl.SSLError):
        return HostError(url, f"no secure connection: {error.reason or error}")
    if isinstance(error, EOFError):
        return HostError(url, f"the answer ended {error}")
    if isinstance(error, FormatError):
        return HostError(url, f"this is no HTTP server: {error.what}")
    return HostError(url, (getattr(error, "strerror", "") or str(error)).lower())
