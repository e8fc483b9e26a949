"""Opening a store by its location: a folder, or an address whose scheme names the adapter.

The location is all that another process needs: what an adapter wants besides (endpoint, keys) lies in a file of
mode 0600, which the location's query names.
"""

from __future__ import annotations

from pathlib import Path

from cernvm.core.errors import InvalidInputError
from cernvm.fs.store.local import LocalStore
from cernvm.fs.store.port import ObjectStore


def open_store(location: str) -> ObjectStore:
    """The store at a location.

    Errors: `InvalidInputError` for one that is no absolute folder and names no adapter.
    """
    scheme, separator, _ = location.partition("://")
    if separator:
        raise InvalidInputError(f"there is no kind of store {scheme!r}")
    if not location.startswith("/"):
        raise InvalidInputError(f"{location!r} is no place of a store: write an absolute folder")
    return LocalStore(Path(location))
