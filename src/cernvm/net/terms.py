"""How one request is made beyond what it asks for: how urgent it is, which part is wanted, and on whose behalf."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from cernvm.core.errors import InvalidInputError


class Urgency(Enum):
    """Whether somebody waits."""

    FOREGROUND = "foreground"  # somebody waits: every route is tried, on lanes kept free for it
    BACKGROUND = "background"  # fetched ahead: asked once, on lanes of its own, and making way


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves to a server that a process may read a protected repository; sent over TLS only, and never shown.

    Shape: `certificate_pem` holds a certificate (a proxy certificate with its chain perhaps) and its private key.
    """

    bearer_token: str = field(default="", repr=False)
    certificate_pem: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if not all("!" <= letter <= "~" for letter in self.bearer_token):
            # Not quoted: it is a secret.
            raise InvalidInputError("a bearer token has characters that no header may have")


@dataclass(frozen=True, slots=True)
class Terms:
    """Shape: `byte_range` is the first and the last byte wanted, both counted from 0 and included.

    Units: `patience_s` is the longest wait for a connection or a sign of life where others could be asked instead.
    """

    urgency: Urgency = Urgency.FOREGROUND
    byte_range: tuple[int, int] | None = None
    credentials: Credentials | None = None
    no_cache: bool = False
    patience_s: float | None = None

    def __post_init__(self) -> None:
        if self.byte_range is not None and not 0 <= self.byte_range[0] <= self.byte_range[1]:
            raise InvalidInputError(f"{self.byte_range} is no range of bytes")

    @property
    def in_background(self) -> bool:
        """Whether it makes way for others."""
        return self.urgency is Urgency.BACKGROUND


PLAIN = Terms()
