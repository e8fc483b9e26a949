"""The first reads of a program, as a mount records them and a publisher makes a profile of them.

One line of ASCII for each: where in the file, a blank, and the path as in profiles.
Source: docs/formats/profiles.md, "Recording one".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cernvm.core.errors import FormatError
from cernvm.fs.format.profile import MAX_ACCESSES, quote_path, unquote_path

MAX_RECORD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class FirstRead:
    """A file that was read from, and the first place in one of its objects. Units: `offset` in bytes of content."""

    path: bytes
    offset: int = 0


def format_read(read: FirstRead) -> bytes:
    """The line, with its end."""
    return f"{read.offset} {quote_path(read.path)}\n".encode("ascii")


def parse_reads(data: bytes) -> tuple[FirstRead, ...]:
    """The reads in order, each once, as many as a profile takes; a last line that was cut off is left out.

    Errors: `FormatError` with the line.
    """
    lines = data[: data.rfind(b"\n") + 1].decode("ascii", "replace").splitlines()
    return tuple(_first(_parse(line, number) for number, line in enumerate(lines, 1)))


def _first(reads: Iterable[FirstRead]) -> list[FirstRead]:
    return list(dict.fromkeys(reads))[:MAX_ACCESSES]


def _parse(line: str, number: int) -> FirstRead:
    offset, _, path = line.partition(" ")
    if not (offset.isascii() and offset.isdecimal() and len(offset) <= 16):
        raise FormatError("does not begin with an offset", where="recorded reads", line=number)
    try:
        return FirstRead(unquote_path(path), int(offset))
    except FormatError as error:
        raise FormatError(error.reason, where="recorded reads", line=number) from None
