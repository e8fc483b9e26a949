"""Content addresses: what an object is called and how its name is computed.

A digest is always 20 bytes. Its text is 40 lower-case hex digits and, except for SHA-1, the algorithm's tag.
Source: docs/formats/repository.md, "Objects".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cernvm.core.errors import FormatError, InvalidInputError

DIGEST_BYTES = 20


class Hasher(Protocol):
    """An incremental hash over the bytes as they are stored."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add more of the stored bytes."""


class Algorithm(Enum):
    """The three hash algorithms of the format; values are the names that users type."""

    SHA1 = "sha1"
    RMD160 = "rmd160"
    SHAKE128 = "shake128"

    @property
    def tag(self) -> str:
        """The suffix of a digest's text: empty for SHA-1."""
        return "" if self is Algorithm.SHA1 else f"-{self.value}"

    @property
    def flag(self) -> int:
        """The number that catalogs store: the format's identifier minus SHA-1's."""
        return _FLAGS[self]

    @staticmethod
    def from_flag(flag: int) -> Algorithm:
        """The algorithm a catalog's flag bits name."""
        if not 0 <= flag < len(_BY_FLAG):
            raise FormatError(f"unknown hash algorithm number {flag}", field="flags")
        return _BY_FLAG[flag]

    def hasher(self) -> Hasher:
        """A fresh incremental hash; `finish` turns it into a digest."""
        if self is Algorithm.SHA1:
            return hashlib.sha1(usedforsecurity=False)
        if self is Algorithm.RMD160:
            return _ripemd160()
        return hashlib.shake_128(usedforsecurity=False)

    def finish(self, hasher: Hasher) -> Digest:
        """The digest of everything that `hasher` was given."""
        if self is Algorithm.SHAKE128:
            raw: bytes = hasher.digest(DIGEST_BYTES)  # type: ignore[attr-defined]
        else:
            raw = hasher.digest()  # type: ignore[attr-defined]
        return Digest(self, raw)

    def digest(self, data: bytes | bytearray | memoryview) -> Digest:
        """The digest of `data`, which are bytes as stored (after compression)."""
        hasher = self.hasher()
        hasher.update(data)
        return self.finish(hasher)


_BY_FLAG = tuple(Algorithm)
_FLAGS = {algorithm: flag for flag, algorithm in enumerate(_BY_FLAG)}


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The content address of one object.

    Shape: `raw` is 20 bytes; `str()` is the hex digits with the algorithm's tag.
    """

    algorithm: Algorithm
    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != DIGEST_BYTES:
            raise InvalidInputError(f"a digest has {DIGEST_BYTES} bytes, not {len(self.raw)}")

    @property
    def hex(self) -> str:
        """The 40 hex digits without a tag."""
        return self.raw.hex()

    def __str__(self) -> str:
        return self.raw.hex() + self.algorithm.tag


def _ripemd160() -> Hasher:
    try:
        return hashlib.new("ripemd160", usedforsecurity=False)
    except ValueError:  # this machine's OpenSSL has it in a provider that is not loaded
        from cernvm.core.ripemd160 import Ripemd160  # noqa: PLC0415  # hardly ever needed

        return Ripemd160()


def parse_digest(text: str) -> Digest:
    """Read a digest from its text, with or without tag.

    Errors: `FormatError` for anything else, upper case included.

    >>> parse_digest("da39a3ee5e6b4b0d3255bfef95601890afd80709").algorithm.value
    'sha1'
    """
    hex_text, _, tag = text.partition("-")
    if len(hex_text) != 2 * DIGEST_BYTES or not set(hex_text) <= set("0123456789abcdef"):
        raise FormatError(f"{text[:80]!r} is no digest", field="digest")
    if "-" not in text:
        return Digest(Algorithm.SHA1, bytes.fromhex(hex_text))
    for algorithm in (Algorithm.RMD160, Algorithm.SHAKE128):
        if tag == algorithm.value:
            return Digest(algorithm, bytes.fromhex(hex_text))
    raise FormatError(f"{text[:80]!r} names an unknown hash algorithm", field="digest")
