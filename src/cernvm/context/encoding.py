"""From the bytes a cloud hands over to the text somebody wrote: gzip and base64, in any order, bounded."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from dataclasses import dataclass

from cernvm.core.errors import ContextFormatError

MAX_TEXT_BYTES = 64 * 1024  # four times the limit of EC2; also of any wrapping
_MAX_LAYERS = 4
_GZIP = b"\x1f\x8b"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{8}[A-Za-z0-9+/\s]*={0,2}\s*")


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """The text and the wrappings that were taken off, outermost first."""

    text: str
    layers: tuple[str, ...] = ()


def unwrap(data: bytes) -> Unwrapped:
    """Take gzip and base64 off user-data.

    Errors: `ContextFormatError` when a layer is damaged, there are too many, the text is larger than
    `MAX_TEXT_BYTES`, or it is not UTF-8.
    """
    layers: list[str] = []
    while True:
        if len(data) > MAX_TEXT_BYTES:
            raise _error(f"larger than {MAX_TEXT_BYTES} bytes")
        inner, name = _peel(data)
        if not name:
            return Unwrapped(_decode(data), tuple(layers))
        layers.append(name)
        if len(layers) > _MAX_LAYERS:
            raise _error(f"wrapped more than {_MAX_LAYERS} times")
        data = inner


def _peel(data: bytes) -> tuple[bytes, str]:
    if data.startswith(_GZIP):
        return _gunzip(data), "gzip"
    if _BASE64.fullmatch(data):
        try:
            inner = base64.b64decode(b"".join(data.split()), validate=True)
        except binascii.Error:
            return data, ""
        # one word of letters is valid base64 too; only what gives user-data was meant as such
        if inner.startswith(_GZIP) or _looks_written(inner) or _peel(inner)[1]:
            return inner, "base64"
    return data, ""


def _gunzip(data: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    try:
        text = stream.decompress(data, MAX_TEXT_BYTES + 1)
    except zlib.error:
        raise _error("damaged gzip data") from None
    if not stream.eof and len(text) <= MAX_TEXT_BYTES:
        raise _error("gzip data that ends too early")
    return text


def _looks_written(inner: bytes) -> bool:
    return (b"[" in inner or inner.startswith(b"#")) and b"\0" not in inner


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error("not UTF-8 text", line=line) from None


def _error(reason: str, *, line: int = 0) -> ContextFormatError:
    return ContextFormatError(reason, where="user-data", line=line)
