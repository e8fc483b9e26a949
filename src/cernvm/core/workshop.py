"""Folders for work in progress: each goes with its owner or, when that was killed, when the next one is opened."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from cernvm.core.errors import DeniedError, UnavailableError
from cernvm.core.home import ensure_folder

_LOCK = "lock"
_PATIENCE_S = 30.0
_POLL_S = 0.02


@contextmanager
def open_workshop(place: Path) -> Iterator[Path]:
    """An empty private folder below `place`; what crashed owners left there is swept first.

    Errors: `UnavailableError` where another process stopped in the middle of sweeping it.
    """
    ensure_folder(place, mode=0o700)
    with ExitStack() as stack:
        with _alone(place):
            _sweep(place)
            folder = Path(tempfile.mkdtemp(dir=place))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.callback(os.close, _locked(folder / _LOCK, os.O_CREAT))
        yield folder


def open_scratch() -> AbstractContextManager[Path]:
    """An empty private folder where the system keeps temporary files.

    Errors: `DeniedError` where somebody else has taken the name of this user's place there.
    """
    place = Path(tempfile.gettempdir()) / f"cvm-{os.geteuid()}"
    with suppress(FileExistsError):
        place.mkdir(mode=0o700)
    status = place.lstat()
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not is_ours or status.st_mode & 0o077:
        raise DeniedError(
            f"{place} is not this user's private folder",
            advice="set TMPDIR to a folder of your own",
        )
    return open_workshop(place)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """While folders are made and swept, so that none is swept before its owner has locked it."""
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"{place} is being swept for {_PATIENCE_S:.0f} s",
                        advice=f"see who holds it: fuser {place}",
                    ) from None
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _sweep(place: Path) -> None:
    for folder in place.iterdir():
        with suppress(OSError):  # BlockingIOError of one that has an owner
            # made where it is missing: nobody else is between making a folder and locking it
            descriptor = _locked(folder / _LOCK, os.O_CREAT)
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
