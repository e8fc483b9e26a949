"""Whether a revision without a name is still whole: a collection that was broken off may have begun on it."""

from __future__ import annotations

from cernvm.core.digest import Digest
from cernvm.core.errors import NotFoundError
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.listing import list_drawers
from cernvm.fs.survey.marks import Marks, key_of_path, key_path
from cernvm.fs.survey.walking import walk


def check_whole(store: ObjectStore, root: Digest) -> None:
    """Pass if all that a root catalog needs is in the store, by listings; the caller holds the store.

    Errors: `NotFoundError` naming an object that is not there; `FormatError` and `TrustError` for damaged catalogs.
    """
    with Marks() as needed:
        for found in walk(store, [root], set()):
            needed.add(found.objects)
        for number, listed in list_drawers(store):
            keys = needed.drawer(number)
            keys.difference_update(key_of_path(path) for path, _ in listed)
            if keys:
                raise NotFoundError(
                    "object",
                    key_path(min(keys)),
                    advice=f"revision {root} is not whole any more; choose a tagged one",
                )
