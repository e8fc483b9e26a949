"""The object store on any file system that fsspec knows: `fsspec+PROTOCOL://PLACE`.

Files are written under another name below `data/txn` and moved to their own: where the file system moves atomically
(file, sftp, smb, hdfs), nobody sees a part of one; where it copies (most object stores), the file appears at the end of
the copy. After each write the size is asked for. Who holds the store is a record that is renewed
(`cernvm.fs.store.lease`), without conditions: of two publishers that begin within a second both may believe
themselves alone. Format: docs/formats/stores.md.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cernvm.core.errors import ConfigError, DeniedError, LeaseLostError, NotFoundError
from cernvm.fs.format.objects import MANIFEST_PATH
from cernvm.fs.store.fsspec_place import Place, age_s, name_of, status_of
from cernvm.fs.store.lease import LEASE_S, SETTLE_S, Lease, Seen
from cernvm.fs.store.names import TEMPORARY, check_path
from cernvm.fs.store.port import ObjectStatus

_LOCK = f"{TEMPORARY}/publisher.lock"
_CLOCKS_DIFFER_S = 120.0  # at most, between the machines of two publishers and the store's


class FsspecStore:
    """An `ObjectStore` below an address of fsspec's (`PROTOCOL://PLACE`)."""

    lanes = 8

    def __init__(
        self,
        address: str,
        options: Mapping[str, Any],
        *,
        location: str,
    ) -> None:
        # what lies in this process's memory cannot be opened by another one
        self.location = "" if address.startswith("memory:") else location
        self._place = Place(address, options)
        self.lease_s, self.settle_s = LEASE_S, SETTLE_S
        self._lease: Lease | None = None
        self._stood: str | None = None

    def put(self, path: str, data: bytes) -> None:
        self._place.write(check_path(path), data, through=_temporary())

    def replace(self, path: str, data: bytes) -> None:
        check_path(path)
        if self._lease is not None:
            self._lease.check()
            if path == MANIFEST_PATH and self._digest(path) != self._stood:
                raise LeaseLostError(
                    f"{path} of {self._place.address} was replaced by another publisher",
                    advice="nothing was published; look what the other one did, then publish again",
                )
        self.put(path, data)
        if path == MANIFEST_PATH:
            self._stood = hashlib.sha256(data).hexdigest()

    def get(self, path: str) -> bytes:
        return self._place.read(check_path(path))

    def has(self, path: str) -> bool:
        return self.status(path) is not None

    def status(self, path: str) -> ObjectStatus | None:
        row = self._place.info(check_path(path))
        return None if row is None else status_of(row)

    def delete(self, *paths: str) -> None:
        for path in map(check_path, paths):
            if self._lease is not None:
                self._lease.check()  # another holder may refer by then to what nobody needed
            self._place.remove(path)

    def paths(self, prefix: str = "") -> Iterator[str]:
        return (path for path, _ in self.listing(prefix))

    def listing(self, prefix: str = "") -> Iterator[tuple[str, ObjectStatus]]:
        above = prefix.rpartition("/")[0]
        if above.startswith(("/", TEMPORARY)) or ".." in above.split("/"):
            return
        folders = [above]
        while folders:
            folder = folders.pop()
            for row in self._place.rows(folder):
                path = f"{folder}/{name_of(row)}" if folder else name_of(row)
                if not path.startswith(prefix) or path == TEMPORARY:
                    continue
                if row.get("type") == "directory":
                    folders.append(path)
                else:
                    yield path, status_of(row)

    @contextmanager
    def exclusive(self, wait_s: float = 0.0) -> Iterator[None]:
        lease = Lease(
            FsspecSeat(self._place),
            store=self._place.address,
            lease_s=self.lease_s,
            settle_s=self.settle_s,
        )
        with lease.held(wait_s):
            self._stood = self._digest(MANIFEST_PATH)
            self._lease = lease
            try:
                self._sweep()
                yield
            finally:
                self._lease = None

    def _sweep(self) -> None:
        """Remove what publishers that died left half-written."""
        for row in self._place.rows(TEMPORARY):
            path = f"{TEMPORARY}/{name_of(row)}"
            age = age_s(row)
            if path != _LOCK and age is not None and age > self.lease_s + _CLOCKS_DIFFER_S:
                self._place.remove(path)

    def _digest(self, path: str) -> str | None:
        try:
            return hashlib.sha256(self.get(path)).hexdigest()
        except NotFoundError:
            return None


class FsspecSeat:
    """A `Seat` for the holder's record of such a store."""

    heeds_conditions = False

    def __init__(self, place: Place) -> None:
        self._place = place

    def look(self) -> Seen | None:
        try:
            data = self._place.read(_LOCK)
        except NotFoundError:
            return None
        row = self._place.info(_LOCK)
        age = None if row is None else age_s(row)
        return Seen(
            data, hashlib.sha256(data).hexdigest(), None if age is None else age - _CLOCKS_DIFFER_S
        )

    def take(self, data: bytes, over: str | None) -> str | None:  # noqa: ARG002
        self._place.write(_LOCK, data, through=_temporary())
        return hashlib.sha256(data).hexdigest()

    def leave(self) -> None:
        self._place.remove(_LOCK)


def read_options(path: Path | None) -> dict[str, Any]:
    """What the protocol's library is told besides the address: the keys of a private TOML file."""
    if path is None:
        return {}
    try:
        if path.stat().st_mode & 0o077:
            raise DeniedError(f"{path}: others can read it", advice=f"chmod 600 {path}")
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NotFoundError("file of a store", str(path)) from None
    except (OSError, ValueError) as exc:
        raise ConfigError(f"it is no TOML: {exc}", source=str(path)) from None


def _temporary() -> str:
    return f"{TEMPORARY}/{os.getpid()}-{secrets.token_hex(8)}"
