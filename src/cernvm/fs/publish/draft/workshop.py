"""The folder in which a draft's catalogs lie while they are edited; it goes with its owner, or soon after it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cernvm.core.home import ensure_folder

_LOCK = "lock"


@contextmanager
def open_workshop(drafts: Path) -> Iterator[Path]:
    """An empty private folder below `drafts`; what crashed owners left there is swept first."""
    ensure_folder(drafts, mode=0o700)
    _sweep(drafts)
    folder = Path(tempfile.mkdtemp(dir=drafts))
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            drafts.rmdir()


def _sweep(drafts: Path) -> None:
    for folder in drafts.iterdir():
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
