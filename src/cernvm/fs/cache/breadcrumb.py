"""What a client remembers of a repository between mounts: the last revision whose root catalog it had.

It is what refuses an older revision, and what mounts without a network.
Source: docs/formats/cache.md, "Breadcrumbs".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import FormatError, SpaceError
from cernvm.core.home import check_repository_name, ensure_folder, write_atomically

_LINE = re.compile(
    r"(?P<digest>[0-9a-z-]+)T(?P<published>[0-9]{1,12})(?:R(?P<revision>[0-9]{1,20}))?\n?"
)


@dataclass(frozen=True, slots=True)
class Breadcrumb:
    """The last revision seen. Units: `published_s` is seconds since the epoch, 0 when unknown."""

    root_catalog: Digest
    published_s: int
    revision: int


def format_breadcrumb(breadcrumb: Breadcrumb) -> bytes:
    """The file's one line, without a newline."""
    text = f"{breadcrumb.root_catalog}T{breadcrumb.published_s}R{breadcrumb.revision}"
    return text.encode("ascii")


def parse_breadcrumb(data: bytes) -> Breadcrumb:
    """What the line says; files of old clients have no revision, which then is 0. Errors: `FormatError`."""
    match = _LINE.fullmatch(data[:200].decode("ascii", "replace"))
    if match is None or len(data) > 200:
        raise FormatError("this is no breadcrumb", where="breadcrumb")
    return Breadcrumb(
        parse_digest(match["digest"]), int(match["published"]), int(match["revision"] or 0)
    )


class Breadcrumbs(Protocol):
    """Where breadcrumbs are kept."""

    def last_seen(self, repository: str) -> Breadcrumb | None:
        """The last revision seen, or None; a damaged breadcrumb counts as none."""

    def leave(self, repository: str, breadcrumb: Breadcrumb) -> None:
        """Remember a revision. Errors: `SpaceError`."""


class DiskBreadcrumbs:
    """One small file per repository in the cache's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def last_seen(self, repository: str) -> Breadcrumb | None:
        try:
            return parse_breadcrumb(self._path(repository).read_bytes())
        except (OSError, FormatError):
            return None

    def leave(self, repository: str, breadcrumb: Breadcrumb) -> None:
        try:
            ensure_folder(self._folder, mode=0o700)
            write_atomically(self._path(repository), format_breadcrumb(breadcrumb))
        except OSError as error:
            raise SpaceError(f"{self._folder} cannot be written: {error.strerror}") from error

    def _path(self, repository: str) -> Path:
        return self._folder / f"cvmfschecksum.{check_repository_name(repository)}"


class MemoryBreadcrumbs:
    """Breadcrumbs of one process."""

    def __init__(self) -> None:
        self._seen: dict[str, Breadcrumb] = {}

    def last_seen(self, repository: str) -> Breadcrumb | None:
        return self._seen.get(repository)

    def leave(self, repository: str, breadcrumb: Breadcrumb) -> None:
        self._seen[repository] = breadcrumb
