"""Leases: the right of one publisher to change what is below one path, for a time.

Source: docs/formats/gateway.md, "Leases".
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime

from cernvm.core.errors import InvalidInputError, TransactionOpenError
from cernvm.core.home import check_repository_name
from cernvm.fs.publish.publishing import parse_path

MAX_PATH_BYTES = 4096


@dataclass(frozen=True, slots=True, order=True)
class LeasePath:
    """What a lease covers: a path of a repository and everything below.

    Shape: `path` is absolute within the repository, empty for the whole of it; `str()` is how people write it.
    """

    repository: str
    path: bytes = b""

    def covers(self, other: LeasePath) -> bool:
        """Whether `other` is this path or below it."""
        return self.repository == other.repository and is_below(other.path, self.path)

    def overlaps(self, other: LeasePath) -> bool:
        """Whether two publishers could change the same thing under the two."""
        return self.covers(other) or other.covers(self)

    def __str__(self) -> str:
        return self.repository + (os.fsdecode(self.path) or "/")


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that was given; `token` is known to its holder only and never logged."""

    token: str
    path: LeasePath
    key_id: str
    hostname: str
    ttl_s: int
    api_version: int
    opened_at: datetime
    expires_at: datetime

    def left_s(self, now: datetime) -> float:
        """How long it still lasts; not above zero once it has run out."""
        return (self.expires_at - now).total_seconds()

    def __repr__(self) -> str:
        return f"Lease({self.path}, {self.key_id!r}, until {self.expires_at:%Y-%m-%dT%H:%M:%SZ})"


class PathBusyError(TransactionOpenError):
    """Somebody else holds a lease on the path, on one above or on one below; `left_s` is how long at most."""

    def __init__(self, path: LeasePath, *, left_s: float) -> None:
        super().__init__(
            f"{path} is leased to another publisher for {left_s:.0f} s at most",
            advice="wait, or publish below another path",
        )
        self.path, self.left_s = path, left_s


def parse_lease_path(text: str) -> LeasePath:
    """The path that a publisher asks for as `NAME/` or `NAME/some/path`.

    Errors: `InvalidInputError` for a name, a dot or an empty component that no repository has.
    """
    name, _, rest = text.partition("/")
    path = LeasePath(check_repository_name(name), parse_path(rest))
    if len(path.path) > MAX_PATH_BYTES:
        raise InvalidInputError(f"{text[:80]!r} … is too long for a path")
    return path


def is_below(path: bytes, top: bytes) -> bool:
    """Whether `path` is `top` or below it."""
    return path == top or path.startswith(top + b"/")
