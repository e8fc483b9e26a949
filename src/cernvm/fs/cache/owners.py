"""Which processes use a cache folder now, and which of them died: one locked file each.

The kernel drops a lock when its holder dies, in whatever PID namespace it lived; so a file that can be locked is the
mark of a crash. A process that ends in good order removes its own.
Source: docs/formats/cache.md, "Owners".
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.clock import Deadline

LOCK_DEADLINE_S = 30.0

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Crashed:
    """A process that did not end in good order; `power_was_lost` when the machine started anew since."""

    owner: str
    power_was_lost: bool


class Owner:
    """This process's mark in the folder; held until `release` or death."""

    def __init__(self, folder: Path) -> None:
        self.name = uuid.uuid4().hex
        self._path = folder / self.name
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        os.write(self._descriptor, _boot_id())

    def release(self) -> None:
        """Leave in good order."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: one process at a time opens, recovers or rebuilds a cache.

    Errors: `OSError`; `DeadlineError` when another one takes too long.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(folder / "lock", flags, 0o600)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    deadline = Deadline.after(LOCK_DEADLINE_S)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            deadline.check(f"waiting for whoever else opens the cache {folder}")
            time.sleep(0.02)
        else:
            return


def remove_crashed(folder: Path) -> list[Crashed]:
    """Find the marks of dead processes and remove them. Concurrency: within `exclusive`."""
    crashed = []
    boot_id = _boot_id()
    for path in folder.iterdir():
        try:
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(path, flags)
        except OSError:  # gone meanwhile, or no mark of ours
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            crashed.append(Crashed(path.name, os.read(descriptor, 100) != boot_id))
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return crashed


def _boot_id() -> bytes:
    try:
        return _BOOT_ID.read_bytes()
    except OSError:
        return b"unknown"
