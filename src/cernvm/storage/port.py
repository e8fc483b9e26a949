"""Objects under names, as everyone sees them who keeps or fetches outputs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cernvm.core.errors import DigestMismatchError, InvalidInputError

BLOCK_BYTES = 256 * 1024
MAX_OBJECT_BYTES = 1 << 40

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+=,-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known of one object; `sha256` is 64 hex digits of its content."""

    path: str
    size_bytes: int
    sha256: str
    stored_at: datetime


class ObjectStorage(Protocol):
    """A place that keeps immutable objects under paths such as `jobs/ID/1/NAME`.

    Errors: `InvalidInputError` for a path that is none; `UnavailableError`s of the place behind it.
    Concurrency: safe from any thread; every verb may block.
    """

    def put(self, path: str, blocks: Iterable[bytes], *, size_bytes: int, sha256: str) -> Stat:
        """Keep an object once all of it has arrived; the same content again changes nothing.

        Errors: `ExistsError` when other content is there; `DigestMismatchError` or `InvalidInputError` when the bytes
        are not those announced; `SpaceError`. After an error nothing is kept.
        """

    def get(self, path: str) -> Iterator[bytes]:
        """The object's content in blocks.

        Errors: `NotFoundError`; `DigestMismatchError` at the end when what is kept was altered.
        """

    def stat(self, path: str, *, verify: bool = False) -> Stat:
        """What is kept there; `verify` reads the content again and checks it.

        Errors: `NotFoundError`; with `verify`, `DigestMismatchError`.
        """

    def list(self, prefix: str = "") -> list[Stat]:
        """All objects below a folder, by path."""

    def delete(self, path: str) -> None:
        """Forget an object. Errors: `NotFoundError`."""


def check_object_path(path: str) -> str:
    """The path itself, if it is 1 to 16 plain names joined by slashes. Errors: `InvalidInputError`."""
    parts = path.split("/")
    if len(parts) > 16 or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidInputError(
            f"{path[:200]!r} is no object path",
            advice="join names of letters, digits and . _ @ + = , - with /; none may begin with a dot",
        )
    return path


def check_sha256(text: str) -> str:
    """The text itself, if it is a SHA-256 in 64 lower-case hex digits. Errors: `InvalidInputError`."""
    if not _SHA256.fullmatch(text):
        raise InvalidInputError(f"{text[:80]!r} is no SHA-256", advice="write 64 hex digits")
    return text


def checked(blocks: Iterable[bytes], *, path: str, size_bytes: int, sha256: str) -> Iterator[bytes]:
    """Pass blocks on; stop with an error as soon as they cannot be the announced content.

    Errors: `InvalidInputError` for another size, `DigestMismatchError` for another checksum.
    """
    hasher = hashlib.sha256()
    seen = 0
    for block in blocks:
        seen += len(block)
        if seen > size_bytes:
            break
        hasher.update(block)
        yield block
    if seen != size_bytes:
        raise InvalidInputError(
            f"{path}: {'more than ' if seen > size_bytes else ''}{min(seen, size_bytes)} bytes came, not {size_bytes}"
        )
    if hasher.hexdigest() != sha256:
        raise DigestMismatchError(expected=sha256, got=hasher.hexdigest(), source=path)
