"""A place on a file system that fsspec knows: its few verbs that a store needs, with our errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from cernvm.core.errors import (
    CvmError,
    DeniedError,
    HostError,
    InvalidInputError,
    NotFoundError,
    SpaceError,
)
from cernvm.fs.store.local import translate
from cernvm.fs.store.port import ObjectStatus

T = TypeVar("T")

_TIMES = ("mtime", "modified", "LastModified", "last_modified", "updated", "created")


class Place:
    """What lies below an address (`PROTOCOL://PLACE`); paths are relative to it. Concurrency: that of the library."""

    def __init__(self, address: str, options: Mapping[str, Any]) -> None:
        self.address = address
        try:
            files, top = fsspec.core.url_to_fs(address, **options, use_listings_cache=False)
        except (ValueError, TypeError) as exc:
            raise InvalidInputError(f"{address}: {exc}") from None
        except OSError as exc:
            raise HostError(address, str(exc)) from exc
        self._files: Any = files
        self._top = str(top).rstrip("/")
        self._ready: set[str] = set()

    def read(self, path: str) -> bytes:
        return bytes(self._call(lambda: self._files.cat_file(self._full(path)), path))

    def write(self, path: str, data: bytes, *, through: str) -> None:
        """Write a file by way of another name; `HostError` where it is not what was written."""
        self._call(lambda: self._write(path, data, through), path)

    def info(self, path: str) -> Mapping[str, Any] | None:
        """What the file system knows of a file; None where there is none."""
        try:
            row: Mapping[str, Any] = self._call(lambda: self._files.info(self._full(path)), path)
        except NotFoundError:
            return None
        return row if row.get("type") == "file" else None

    def rows(self, folder: str) -> list[dict[str, Any]]:
        """What is in a folder; nothing where there is none."""
        try:
            rows: list[dict[str, Any]] = self._call(
                lambda: self._files.ls(self._full(folder), detail=True), folder
            )
        except NotFoundError:
            return []
        return rows

    def remove(self, path: str) -> None:
        try:
            self._call(lambda: self._files.rm_file(self._full(path)), path)
        except NotFoundError:
            return

    def _write(self, path: str, data: bytes, through: str) -> None:
        for folder in (through.rpartition("/")[0], path.rpartition("/")[0]):
            if folder not in self._ready:
                self._files.makedirs(self._full(folder), exist_ok=True)
                self._ready.add(folder)
        self._files.pipe_file(self._full(through), data)
        self._files.mv(self._full(through), self._full(path))
        size_bytes = int(self._files.info(self._full(path))["size"])
        if size_bytes != len(data):
            raise HostError(
                self.address, f"it took {path}, and has {size_bytes} of its {len(data)} bytes"
            )

    def _full(self, path: str) -> str:
        return f"{self._top}/{path}" if path else self._top

    def _call(self, call: Callable[[], T], path: str) -> T:
        try:
            return call()
        except CvmError:
            raise
        except FileNotFoundError:
            raise NotFoundError("object", path) from None
        except PermissionError as exc:
            raise DeniedError(f"{self.address}: {exc}") from exc
        except OSError as exc:
            meant = translate(exc, Path(self.address))
            raise (
                meant if isinstance(meant, SpaceError) else HostError(self.address, str(exc))
            ) from exc
        except Exception as exc:  # each protocol's library has errors of its own
            raise HostError(self.address, f"{type(exc).__name__}: {exc}"[:300]) from exc


def name_of(row: Mapping[str, Any]) -> str:
    """The last part of a row's name."""
    return str(row["name"]).rstrip("/").rpartition("/")[2]


def status_of(row: Mapping[str, Any]) -> ObjectStatus:
    """A row as a status; where the file system tells no time, the file was written just now."""
    written_at = modified_at(row) or datetime.now(UTC)
    return ObjectStatus(int(row.get("size") or 0), written_at)


def age_s(row: Mapping[str, Any]) -> float | None:
    """Seconds since a file was written, by this machine's clock; None where the file system does not tell."""
    written_at = modified_at(row)
    return None if written_at is None else time.time() - written_at.timestamp()


def modified_at(row: Mapping[str, Any]) -> datetime | None:
    """When a file was written, under whichever name the file system tells it."""
    for key in _TIMES:
        value = row.get(key)
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    return None
