"""Which paths a store takes: relative, plain, and outside its own workshop."""

from __future__ import annotations

import re

from cernvm.core.errors import InvalidInputError

TEMPORARY = "data/txn"
_PATH = re.compile(r"[A-Za-z0-9.][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


def check_path(path: str) -> str:
    """The path itself, if a store may hold it; else `InvalidInputError`."""
    plain = _PATH.fullmatch(path) and len(path) <= 255 and not path.startswith("..")
    if not plain or path.startswith(TEMPORARY):
        raise InvalidInputError(f"{path[:80]!r} is no path of an object store")
    return path
