"""An object of a bucket, of which one part is in memory at a time."""

from __future__ import annotations

from collections.abc import Callable

from cernvm.core.errors import HostError


class S3Parts:
    """`Parts` of an object that never changes; the first part is asked for at once.

    Shape: `get` gives the bytes from a place on, and the size of the whole object, -1 for one that has no parts.
    """

    def __init__(self, get: Callable[[int], tuple[bytes, int]]) -> None:
        self._get = get
        self._first = 0
        self._data, self._size_bytes = get(0)

    @property
    def is_parted(self) -> bool:
        """Whether it can be read in parts."""
        return self._size_bytes >= 0

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read(self, first: int, length: int) -> bytes:
        if not 0 <= first < self._size_bytes:
            return b""
        if not self._first <= first < self._first + len(self._data):
            self._data = b""
            data, size_bytes = self._get(first)
            if size_bytes != self._size_bytes or not data:
                raise HostError("bucket", "an object became another one while it was read")
            self._first, self._data = first, data
        at = first - self._first
        return self._data[at : at + length]

    def close(self) -> None:
        self._data = b""
