"""The public keys that vouch for what is replicated, kept beside its record.

The file that somebody named may be moved or go. So each is copied, under a name that its content makes, and records
name the copies.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from cernvm.core.errors import InvalidInputError, NotFoundError
from cernvm.core.home import ensure_folder, write_atomically

_NAME_DIGITS = 16


def read_public_keys(keys: Sequence[Path]) -> list[bytes]:
    """The keys in some files. Errors: `NotFoundError`; `InvalidInputError` for a secret one."""
    found = []
    for key in keys:
        try:
            pem = key.read_bytes()
        except FileNotFoundError:
            raise NotFoundError("public key", str(key)) from None
        if b"PRIVATE KEY" in pem:
            raise InvalidInputError(f"{key} is a secret key", advice="name its public one")
        found.append(pem)
    return found


def keep_keys(folder: Path, keys: Sequence[Path]) -> tuple[Path, ...]:
    """Copy keys into a folder of their own; the copies. Errors: as `read_public_keys`."""
    kept = []
    for pem in read_public_keys(keys):
        copy = folder / f"{hashlib.sha256(pem).hexdigest()[:_NAME_DIGITS]}.pub"
        if copy not in kept:
            kept.append(copy)
            write_atomically(ensure_folder(folder) / copy.name, pem)
    return tuple(kept)


def drop_keys(folder: Path, *, besides: Iterable[Path] = ()) -> None:
    """Remove the copies that no record names any more, and the folder once it is empty."""
    named = set(besides)
    if not named:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for copy in folder.glob("*.pub"):
        if copy not in named:
            copy.unlink(missing_ok=True)
