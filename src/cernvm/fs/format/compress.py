"""How objects are stored: as one zlib stream or as they are; inflating is bounded.

A digest covers the stored bytes, so check it before inflating.
Source: docs/formats/repository.md, "Compression"; RFC 1950.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from cernvm.core.errors import ObjectFormatError
from cernvm.fs.format.deflater import Deflater

_fast: Any
try:
    from isal import isal_zlib as _fast
except ImportError:  # the boot loader has the standard library only
    _fast = zlib

PIECE_BYTES = 1 << 20
_USUAL_LEVEL = 6
_STREAM_ERRORS: tuple[type[Exception], ...] = (zlib.error, _fast.error)


class Compression(IntEnum):
    """The format's numbers for how a file's objects are stored."""

    ZLIB = 0
    NONE = 1

    @staticmethod
    def from_flag(flag: int) -> Compression:
        """The compression a catalog's flag bits name; `ObjectFormatError` for an unknown one."""
        try:
            return Compression(flag)
        except ValueError:
            raise ObjectFormatError(f"unknown compression number {flag}", field="flags") from None


def deflate(data: bytes | memoryview) -> bytes:
    """A zlib stream at the format's usual level, byte for byte what the original writes over the same zlib."""
    return zlib.compress(data, _USUAL_LEVEL)


def deflate_content(
    data: bytes | memoryview, compression: Compression, deflater: Deflater | None = None
) -> bytes:
    """A file's content or chunk as it is stored; by `deflate` where no deflater is chosen."""
    if compression is Compression.NONE:
        return bytes(data)
    return deflate(data) if deflater is None else deflater.deflate(data)


def inflate(data: bytes, *, limit_bytes: int) -> bytes:
    """The content of a whole stored zlib stream.

    Errors: `ObjectFormatError` when it is no complete zlib stream or its content is larger than `limit_bytes`.
    """
    inflater = Inflater(Compression.ZLIB, limit_bytes=limit_bytes)
    content = b"".join(inflater.feed(data))
    inflater.finish()
    return content


class Inflater:
    """Turns stored bytes back into content, block by block, never more than `limit_bytes` in all.

    Errors: `ObjectFormatError` for a broken, cut off, over-long or oversize stream.
    """

    def __init__(self, compression: Compression, *, limit_bytes: int) -> None:
        self._left_bytes = limit_bytes
        self._limit_bytes = limit_bytes
        self._stream = _fast.decompressobj() if compression is Compression.ZLIB else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces of content, each at most `PIECE_BYTES`, that follow from the next stored bytes."""
        if self._stream is None:
            yield self._counted(data)
            return
        if self._stream.eof and data:
            raise ObjectFormatError("bytes follow the end of the stream")
        while True:
            try:
                piece = self._stream.decompress(data, PIECE_BYTES)
            except _STREAM_ERRORS as exc:
                raise ObjectFormatError(f"no valid zlib stream: {exc}") from exc
            if piece:
                yield self._counted(piece)
            data = self._stream.unconsumed_tail
            if self._stream.eof or (not data and len(piece) < PIECE_BYTES):
                break
        if self._stream.unused_data:
            raise ObjectFormatError("bytes follow the end of the stream")

    def finish(self) -> None:
        """State that all stored bytes were fed."""
        if self._stream is not None and not self._stream.eof:
            raise ObjectFormatError("the stream is cut off")

    def _counted(self, piece: bytes) -> bytes:
        self._left_bytes -= len(piece)
        if self._left_bytes < 0:
            raise ObjectFormatError(f"the content is larger than {self._limit_bytes} bytes")
        return piece
