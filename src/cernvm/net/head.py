"""The head of an HTTP/1.1 answer, read strictly: what two readers could understand differently is refused. Pure.

Source: RFC 9110 and RFC 9112; docs/formats/fetching.md says where this is stricter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cernvm.core.errors import FormatError

MAX_HEAD_BYTES = 16 * 1024

_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n"
)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,12})[\t ]*(?:;[\t\x20-\x7e]*)?\r\n")
_ONCE = frozenset({"content-length", "transfer-encoding", "content-range", "location"})


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before a body.

    Shape: `headers` with lower-case names; values of a repeated one joined by commas. `length_bytes` is the body's,
    None where its end shows otherwise: `is_chunked`, or the connection's end.
    """

    status: int
    headers: Mapping[str, str]
    length_bytes: int | None
    is_chunked: bool
    keeps_open: bool


def parse_head(data: bytes) -> Head:
    """The head that `data` is, its last empty line included. Errors: `FormatError`."""
    matched = _HEAD.fullmatch(data)
    if matched is None:
        raise FormatError("this is no HTTP answer")
    status = int(matched[2])
    headers = _headers(matched[3].decode("latin-1"))
    is_chunked = "transfer-encoding" in headers
    length_bytes = _length(headers.get("content-length"))
    if is_chunked and (
        length_bytes is not None
        or matched[1] == b"0"
        or headers["transfer-encoding"].lower() != "chunked"
    ):
        raise FormatError("the end of the body is ambiguous")
    if status in (204, 304) or status < 200:
        length_bytes, is_chunked = 0, False
    options = headers.get("connection", "").lower()
    keeps_open = "close" not in options and (matched[1] == b"1" or "keep-alive" in options)
    ends_by_itself = is_chunked or length_bytes is not None
    return Head(status, headers, length_bytes, is_chunked, keeps_open and ends_by_itself)


def _headers(text: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in text.split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name = name.lower()
        value = value.strip(" \t")
        if name not in headers:
            headers[name] = value
        elif name in _ONCE:
            raise FormatError(f"the answer has two headers {name}")
        else:
            headers[name] = f"{headers[name]}, {value}"
    return headers


def _length(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise FormatError("the answer's length is no number")
    return int(text)


def parse_chunk_line(line: bytes) -> int:
    """How many bytes the chunk has that `line` begins; 0 for the last. Errors: `FormatError`."""
    matched = _CHUNK.fullmatch(line)
    if matched is None:
        raise FormatError("the body's chunks are broken")
    return int(matched[1], 16)
