"""The index of one folder, opened for this process: recovered after crashes, rebuilt when it is damaged.

Source: docs/formats/cache.md, "Owners" and "Index".
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from cernvm.core.errors import HostError
from cernvm.core.log import fields
from cernvm.fs.cache.checksum import checksum_of
from cernvm.fs.cache.folder import SUBFOLDERS, Folder
from cernvm.fs.cache.index import Index, News, Settled, is_damage
from cernvm.fs.cache.owners import Crashed, Owner, exclusive, remove_crashed

# The kernel writes dirty pages back after 30 s, its journal a few seconds later; clocks and disks get the rest.
UNSYNCED_S = 600.0
MAX_DOUBT_S = 5.0

log = logging.getLogger(__name__)


class OpenIndex:
    """The index, and this process's mark among its owners.

    Errors: `OSError`, `sqlite3.Error`, `HostError`. Concurrency: safe from any thread and process.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        owners = folder.path / "owners"
        with exclusive(folder.path):
            crashed = remove_crashed(owners)
            self._owner = Owner(owners)
            try:
                self._recover(owners, crashed)
            except BaseException:
                self._owner.release()
                raise

    @property
    def owner(self) -> str:
        """This process's name in the folder."""
        return self._owner.name

    @property
    def current(self) -> Index:
        """The index as it is open now; after damage it is another one."""
        return self._index

    @property
    def processes(self) -> int:
        """How many processes use the folder, this one included. Errors: `OSError`."""
        return sum(1 for _ in (self._folder.path / "owners").iterdir())

    def settle(
        self, news: News, *, limit_bytes: int, target_bytes: int, remove: Callable[[str], bool]
    ) -> Settled:
        """As `Index.settle`, with a sound index."""

        def tell() -> Settled:
            return self._index.settle(
                news, limit_bytes=limit_bytes, target_bytes=target_bytes, remove=remove
            )

        if self._index.is_replaced or self._folder.is_gone:
            self._rebuild()
        try:
            return tell()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            self._rebuild()
            return tell()

    def close(self) -> None:
        """Leave in good order."""
        with suppress(sqlite3.Error):
            self._index.forget_owner(self.owner)
        self._index.close()
        self._owner.release()

    def _recover(self, owners: Path, crashed: Sequence[Crashed]) -> None:
        living = {path.name for path in owners.iterdir()}
        for draft in self._folder.drafts():
            if draft.partition(".")[0] not in living:
                self._folder.discard(draft)
        self._index = self._open()
        for process in crashed:
            self._index.forget_owner(process.owner)
        if crashed or self._index.is_new:
            self._reconcile(was_power_lost=any(one.power_was_lost for one in crashed))

    def _open(self) -> Index:
        path = self._folder.path / "index"
        try:
            if path.is_symlink() or (path.exists() and not path.is_file()):
                self._remove()
            return Index(path)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise HostError(
                    str(path), f"the cache's index cannot be opened: {error}"
                ) from error
            log.warning("cache.index_damaged", extra=fields(error=str(error)))
            self._remove()
            return Index(path)

    def _rebuild(self) -> None:
        """Open the index anew after this or another process found it damaged, or somebody removed the folder."""
        if self._folder.is_gone:
            self._folder.enter()
        with exclusive(self._folder.path):
            is_replaced = self._index.is_replaced
            self._index.close()
            if not is_replaced:
                log.warning("cache.index_damaged", extra=fields(folder=str(self._folder.path)))
                self._remove()
            self._index = self._open()
            if self._index.is_new:
                self._reconcile(was_power_lost=False)

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            (self._folder.path / f"index{suffix}").unlink(missing_ok=True)

    def _reconcile(self, *, was_power_lost: bool) -> None:
        """Make the index say what the files are, subfolder by subfolder."""
        newest_s = 0.0
        for subfolder in SUBFOLDERS:
            files = self._folder.files(subfolder)
            newest_s = max((newest_s, *(found.modified_s for found in files.values())))
            sizes = {name: found.size_bytes for name, found in files.items()}
            self._distrust(
                self._index.reconcile(subfolder, sizes, trust_unknown=not was_power_lost)
            )
        self._index.recount()
        if was_power_lost:
            self._distrust(self._rotten(since_s=newest_s - UNSYNCED_S))

    def _rotten(self, *, since_s: float) -> Iterable[str]:
        """Of the files that were not synced when power was lost, those whose bytes are wrong or take long to check."""
        doubt_ends = time.monotonic() + MAX_DOUBT_S
        for subfolder in SUBFOLDERS:
            rows = self._index.rows_below(subfolder)
            for name, found in self._folder.files(subfolder).items():
                if found.modified_s < since_s:
                    continue
                row = rows.get(name)
                if (
                    row is None
                    or row.checksum is None
                    or time.monotonic() > doubt_ends
                    or self._checksum(name) != row.checksum
                ):
                    yield name

    def _checksum(self, name: str) -> bytes:
        try:
            return checksum_of(self._folder.open(name))
        except (OSError, HostError):
            return b""

    def _distrust(self, names: Iterable[str]) -> None:
        for name in names:
            log.warning("cache.file_distrusted", extra=fields(name=name))
            self._folder.remove(name)
            self._index.forget(name)
