"""Sizes and durations, between numbers and the words that people read and write."""

from __future__ import annotations

import re

from cernvm.core.errors import InvalidInputError

_SIZE_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
}


def format_bytes(size_bytes: float) -> str:
    """A size for people, in powers of 1000.

    >>> format_bytes(31_400_000)
    '31.4 MB'
    """
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def format_seconds(seconds: float) -> str:
    """A duration for people.

    >>> format_seconds(0.0123), format_seconds(75)
    ('12 ms', '1 min 15 s')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def parse_size(text: str) -> int:
    """Bytes from text such as `4000`, `50 MB`, `2GiB`.

    Errors: `InvalidInputError` naming the text.

    >>> parse_size("2 GiB")
    2147483648
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgGtT]?i?)[bB]?\s*", text)
    if match is None or match[2].lower() not in _SIZE_UNITS:
        raise InvalidInputError(
            f"{text!r} is no size", advice="write a number and a unit, such as 50MB or 2GiB"
        )
    return int(float(match[1]) * _SIZE_UNITS[match[2].lower()])
