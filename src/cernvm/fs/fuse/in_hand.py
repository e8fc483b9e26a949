"""Requests that were read and not yet answered, in memory that outlives the process: whoever serves next answers them.

For kernels that cannot send unanswered requests again (before Linux 6.9). The kernel writes each request straight into
this memory, so that there is no moment at which a kill could lose it.
Source: docs/formats/hand-over.md
"""

from __future__ import annotations

import mmap
import os
import struct
import threading

PLACES = 4096

_HEAD_BYTES = 4096  # begins with the number of places that have memory
_PLACE_BYTES = 16 * 1024  # the first place is where the next request arrives
_NUMBER = struct.Struct("=I")  # a request begins with its length; 0 is an empty place
_ALLOCATED_AT_ONCE = 16
_LEAST_REQUEST_BYTES = 40


class RequestsInHand:
    """Copies of the requests that are owed an answer.

    Concurrency: `release` from any thread, the others from the session's loop.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("cvm-in-hand") if descriptor is None else descriptor
        os.ftruncate(self.descriptor, _start(1 + PLACES))  # sparse
        os.posix_fallocate(self.descriptor, 0, _start(1))
        self._memory = mmap.mmap(self.descriptor, 0)
        self._arrival = memoryview(self._memory)[_start(0) : _start(1)]
        self._places: dict[int, int] = {}
        self._free: list[int] = []
        self._lock = threading.Lock()
        self._left = self._take_left()

    def left(self) -> list[bytes]:
        """What the process before left unanswered, each request once; they are kept until they are released."""
        return self._left

    def receive(self, device: int) -> bytes:
        """The next message of `device`. Errors: `OSError` as read(2)."""
        _NUMBER.pack_into(self._arrival, 0, 0)
        size_bytes = os.readv(device, (self._arrival,))
        return bytes(self._arrival[:size_bytes])

    def keep(self, number: int, message: bytes) -> bool:
        """Keep a request until it is released; False when there is no room."""
        with self._lock:
            if number in self._places:
                return True
            if not self._free and not self._allocate():
                return False
            start = self._places[number] = self._free.pop()
        self._memory[start + _NUMBER.size : start + len(message)] = message[_NUMBER.size :]
        self._memory[start : start + _NUMBER.size] = message[: _NUMBER.size]  # now it counts
        return True

    def release(self, number: int) -> None:
        """The request was answered."""
        with self._lock:
            start = self._places.pop(number, None)
            if start is not None:
                _NUMBER.pack_into(self._memory, start, 0)
                self._free.append(start)

    def _take_left(self) -> list[bytes]:
        left = []
        (allocated,) = _NUMBER.unpack_from(self._memory, 0)
        for place in range(1, 1 + min(allocated, PLACES)):
            message = self._message_at(_start(place))
            if message and _number_of(message) not in self._places:
                self._places[_number_of(message)] = _start(place)
                left.append(message)
            else:
                _NUMBER.pack_into(self._memory, _start(place), 0)
                self._free.append(_start(place))
        arrived = self._message_at(_start(0))
        if arrived and _number_of(arrived) not in self._places:
            self.keep(_number_of(arrived), arrived)
            left.append(arrived)
        return left

    def _message_at(self, start: int) -> bytes:
        (size_bytes,) = _NUMBER.unpack_from(self._memory, start)
        is_request = _LEAST_REQUEST_BYTES <= size_bytes <= _PLACE_BYTES
        return bytes(self._memory[start : start + size_bytes]) if is_request else b""

    def _allocate(self) -> bool:
        """Allocated before it is used: writing to memory that is not there would end the process."""
        (allocated,) = _NUMBER.unpack_from(self._memory, 0)
        many = min(_ALLOCATED_AT_ONCE, PLACES - allocated)
        if many <= 0:
            return False
        try:
            os.posix_fallocate(self.descriptor, _start(1 + allocated), many * _PLACE_BYTES)
        except OSError:
            return False
        _NUMBER.pack_into(self._memory, 0, allocated + many)
        self._free = [_start(1 + allocated + place) for place in range(many)]
        return True


def _start(place: int) -> int:
    return _HEAD_BYTES + place * _PLACE_BYTES


def _number_of(message: bytes) -> int:
    return int.from_bytes(message[8:16], "little")
