"""Messages between a publisher and its worker processes, over a pair of sockets that nobody else holds.

Shape: four bytes of length, big-endian, then a value of plain types as `marshal` writes it: both ends are one program.
Source: docs/formats/content-workers.md.
"""

from __future__ import annotations

import marshal
import socket
import struct
from typing import Any

from cernvm.core import errors
from cernvm.core.errors import CvmError

_LENGTH = struct.Struct(">I")
_PLAIN = (str, int, float, bytes, type(None))


def send(connection: socket.socket, value: Any) -> None:
    """Send one message, whole."""
    data = marshal.dumps(value)
    connection.sendall(_LENGTH.pack(len(data)))
    connection.sendall(data)


def receive(connection: socket.socket) -> Any:
    """The next message; `EOFError` where the other end is gone."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return marshal.loads(_exactly(connection, length))  # noqa: S302  # from our own process only


def pack_error(error: CvmError) -> tuple[str, str, dict[str, Any]]:
    """An error as plain values: its class, text and fields."""
    fields = {key: value for key, value in vars(error).items() if isinstance(value, _PLAIN)}
    return type(error).__name__, str(error), fields


def unpack_error(name: str, text: str, fields: dict[str, Any]) -> CvmError:
    """The error again."""
    kind: type[CvmError] = getattr(errors, name)
    error = kind.__new__(kind, text)
    vars(error).update(fields)
    return error


def _exactly(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if count == 0:
            raise EOFError
        view = view[count:]
    return data
