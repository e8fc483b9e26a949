"""Locks on files: one process at a time, and the kernel lets go of what a dead one held."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cernvm.core.errors import ConflictError


def take_lock(path: Path, otherwise: ConflictError) -> int:
    """Lock the file at `path`, made where it is missing; closing the descriptor that is returned unlocks it.

    Errors: `otherwise` while somebody else holds the lock; `OSError` for a file that cannot be opened or locked.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise otherwise from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
