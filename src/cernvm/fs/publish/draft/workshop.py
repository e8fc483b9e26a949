"""The folder in which a draft's catalogs lie while they are edited; it goes with its owner, or soon after it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cernvm.core.home import ensure_folder

_LOCK = "lock"


@contextmanager
def open_workshop(drafts: Path) -> Iterator[Path]:
    """An empty private folder below `drafts`; what crashed owners left there is swept first."""
    ensure_folder(drafts, mode=0o700)
    with ExitStack() as stack:
        with _alone(drafts):
            _sweep(drafts)
            folder = Path(tempfile.mkdtemp(dir=drafts))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.callback(os.close, _locked(folder / _LOCK, os.O_CREAT))
        yield folder


@contextmanager
def _alone(drafts: Path) -> Iterator[None]:
    """While folders are made and swept, so that none is swept before its owner has locked it."""
    descriptor = os.open(drafts, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(drafts: Path) -> None:
    for folder in drafts.iterdir():
        with suppress(OSError):  # BlockingIOError of one that has an owner
            descriptor = _locked(folder / _LOCK)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _locked(path: Path, flags: int = 0) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
