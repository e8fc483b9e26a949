"""Which library makes zlib streams, and how hard it tries: a publisher's setting, of no meaning to readers.

Any valid zlib stream is a valid object. Another deflater, level or version of a library gives another stream, and so
another name to the same content: it is then stored once more. How they compare: docs/decisions/deflate.md.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module

from cernvm.core.errors import InvalidInputError, PrerequisiteError

_TINY_BYTES = 512  # below, all are as quick, and common tiny files keep the names that the original gives them
_TEXT = re.compile(r"(auto|zlib|zlib-ng|isal|libdeflate)(?::([0-9]{1,2}))?")


@dataclass(frozen=True, slots=True)
class _Library:
    """A library's module and function, the distribution that brings it, its usual level and all that it knows."""

    module: str
    function: str
    distribution: str
    usual: int
    levels: range


_LIBRARIES = {
    "libdeflate": _Library("deflate", "zlib_compress", "deflate", 5, range(1, 13)),
    "zlib-ng": _Library("zlib_ng.zlib_ng", "compress", "zlib-ng", 5, range(1, 10)),
    "isal": _Library("isal.isal_zlib", "compress", "isal", 3, range(4)),
    "zlib": _Library("zlib", "compress", "", 6, range(1, 10)),
}
_BEST_FIRST = ("libdeflate", "zlib-ng", "zlib")  # isal is the quickest, at a tenth more bytes


@dataclass(frozen=True, slots=True)
class Deflater:
    """One library at one level, ready to use. Shape: `str()` is the setting's text, such as `libdeflate:3`."""

    library: str
    level: int
    _compress: Callable[[bytes | memoryview, int], bytes] = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.library}:{self.level}"

    def deflate(self, data: bytes | memoryview) -> bytes:
        """The whole of `data` as one zlib stream."""
        if len(data) < _TINY_BYTES:
            return zlib.compress(data, _LIBRARIES["zlib"].usual)
        return self._compress(data, self.level)


def find_deflater(text: str = "auto") -> Deflater:
    """The deflater that a setting names: `LIBRARY`, `LIBRARY:LEVEL`, or `auto`, the best that is installed.

    Errors: `InvalidInputError` for any other text, `PrerequisiteError` for a library that is not installed.
    """
    found = _TEXT.fullmatch(text)
    if found is None or (found[1] == "auto" and found[2]):
        raise InvalidInputError(
            f"{text[:80]!r} names no deflater",
            advice=f"write auto, or one of {', '.join(_LIBRARIES)}, with or without :LEVEL",
        )
    if found[1] == "auto":
        return next(one for one in map(_load, _BEST_FIRST) if one is not None)
    library = _LIBRARIES[found[1]]
    level = int(found[2]) if found[2] else library.usual
    if level not in library.levels:
        raise InvalidInputError(
            f"{found[1]} has no level {level}",
            advice=f"its levels are {library.levels[0]} to {library.levels[-1]}",
        )
    loaded = _load(found[1], level)
    if loaded is None:
        raise PrerequisiteError(
            f"the deflater {found[1]} is not installed",
            advice=f"install it: pip install {library.distribution}; or choose another one",
        )
    return loaded


def _load(name: str, level: int | None = None) -> Deflater | None:
    """A library at a level, its usual one if None; None where the machine does not have it."""
    library = _LIBRARIES[name]
    try:
        module = import_module(library.module)
    except ImportError:
        return None
    compress = getattr(module, library.function)
    return Deflater(name, library.usual if level is None else level, compress)
