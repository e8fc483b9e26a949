"""Streams that were compressed as a whole: gzip, bzip2, xz and zstd, told by their first bytes; growth is bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from cernvm.core.errors import InvalidInputError, PrerequisiteError

MOST_RATIO = 1000  # what gzip can do; text compresses to a tenth, zeros in zstd to a ten-thousandth
_FREE_BYTES = 1 << 30  # what an archive may always grow to
_XZ_MEMORY_BYTES = 512 << 20
_MAGIC_BYTES = 6


class _ZstdError(Exception):
    """What stands for the library's own error where it is not installed."""


try:
    _zstd_error: type[Exception] = import_module("zstandard").ZstdError
except ImportError:
    _zstd_error = _ZstdError

DAMAGES = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, _zstd_error)


class Inflow(Protocol):
    """A stream of an archive's bytes."""

    def read(self, size: int, /) -> bytes:
        """At most so many of the next bytes; none at the end."""


class Growth:
    """How much an archive may grow: `MOST_RATIO` times what was read of it, beyond the first GiB."""

    def __init__(self, name: str, read_bytes: int = 0) -> None:
        self.name = name
        self.read_bytes = read_bytes

    def check(self, size_bytes: int) -> None:
        """Refuse content of this size so far."""
        if size_bytes > _FREE_BYTES and size_bytes > MOST_RATIO * self.read_bytes:
            raise InvalidInputError(
                f"{self.name} grows to more than {MOST_RATIO} times its size",
                advice="unpack it and publish the folder, if that is meant",
            )


class _Start(io.RawIOBase):
    """A stream as it is stored, counted, whose first bytes were looked at before."""

    def __init__(self, read: Callable[[int], bytes], growth: Growth) -> None:
        super().__init__()
        self._read = read
        self._growth = growth
        self._ahead = b""

    def readable(self) -> bool:
        return True

    def look(self) -> bytes:
        """The first bytes, which will be read again."""
        while len(self._ahead) < _MAGIC_BYTES and (
            part := self._read(_MAGIC_BYTES - len(self._ahead))
        ):
            self._ahead += part
        return self._ahead

    def readinto(self, buffer: Any) -> int:
        data = self._ahead[: len(buffer)] or self._read(len(buffer))
        self._ahead = self._ahead[len(data) :]
        buffer[: len(data)] = data
        self._growth.read_bytes += len(data)
        return len(data)


def inflated(read: Callable[[int], bytes], growth: Growth) -> tuple[Inflow, bool]:
    """What a stored stream holds, and whether it was compressed.

    Errors: `PrerequisiteError` for zstd without its library.
    """
    start = _Start(read, growth)
    magic = start.look()
    for first, opener in _OPENERS.items():
        if magic.startswith(first):
            return opener(io.BufferedReader(start, 1 << 18)), True
    return io.BufferedReader(start, 1 << 18), False


def _open_gzip(stream: io.BufferedReader) -> Inflow:
    try:
        opened: Inflow = import_module("isal.igzip").IGzipFile(fileobj=stream)
    except ImportError:
        return gzip.GzipFile(fileobj=stream)
    return opened


def _open_zstd(stream: io.BufferedReader) -> Inflow:
    try:
        library = import_module("zstandard")
    except ImportError:
        raise PrerequisiteError(
            "the library for zstd is not installed",
            advice="install it: pip install zstandard; or pipe the archive through zstd -d",
        ) from None
    opened: Inflow = library.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    return opened


class _XzReader:
    """An xz stream, whose dictionary may not take the machine's memory."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._inflater = self._new()

    def read(self, size: int) -> bytes:
        while True:
            if self._inflater.eof:
                left = self._inflater.unused_data.lstrip(b"\0") or self._stream.read1().lstrip(
                    b"\0"
                )
                if not left:
                    return b""
                self._inflater = self._new()
                data = self._inflater.decompress(left, size)
            else:
                stored = self._stream.read1() if self._inflater.needs_input else b""
                if self._inflater.needs_input and not stored:
                    raise EOFError("the stream is cut off")
                data = self._inflater.decompress(stored, size)
            if data:
                return data

    def _new(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)


_OPENERS: dict[bytes, Callable[[io.BufferedReader], Inflow]] = {
    b"\x1f\x8b": _open_gzip,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": _XzReader,
    b"\x28\xb5\x2f\xfd": _open_zstd,
}
