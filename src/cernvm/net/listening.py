"""Listening sockets, as every server here opens them."""

from __future__ import annotations

import errno
import socket

from cernvm.core.errors import AddressInUseError, DeniedError, InvalidInputError

BACKLOG = 256


def open_listener(host: str, port: int) -> socket.socket:
    """A non-blocking listening TCP socket of the calling thread's network namespace; `port` 0 takes a free one.

    Errors: `AddressInUseError` for a taken port, `DeniedError` for one that only root may have, `InvalidInputError`
    for an address that is not this machine's.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # accepted connections inherit it; asyncio sets it only on sockets that name TCP as their protocol, and without
        # it each answer's body waits 40 ms for the acknowledgement of its head
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        place = f"{host}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(place) from None
        reason = f"cannot listen on {place}: {error.strerror or error}"
        if isinstance(error, PermissionError):
            raise DeniedError(reason, advice="choose a --port above 1023") from None
        raise InvalidInputError(reason, advice="choose an --address of this machine") from error
    return listener
