"""What a replica has for its peers: its own store, so that nothing is kept twice."""

from __future__ import annotations

import logging

from cernvm.core.errors import CvmError
from cernvm.core.log import fields
from cernvm.fs.peers.depot import MAX_OBJECT_BYTES, is_right
from cernvm.fs.store.port import ObjectStore

_NEAR_LANES = (
    2  # a store that is worth more requests at once is too far away to be asked for others
)

log = logging.getLogger(__name__)


class StoreHoldings:
    """The objects of a store that is near, as peers' `Holdings`. Concurrency: safe from any thread."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._is_near = store.lanes <= _NEAR_LANES

    def put(self, path: str, stored: bytes) -> None:
        """Nothing: whoever fetches puts what came, and a catalog only once all below it is there."""

    def get(self, path: str) -> bytes | None:
        """An object, whose digest is right; None where it is not, or too big for peers."""
        if not self._is_near:
            return None
        try:
            status = self._store.status(path)
            if status is None or status.size_bytes > MAX_OBJECT_BYTES:
                return None
            stored = self._store.get(path)
        except CvmError as error:
            log.debug("peering.not_read", extra=fields(path=path, reason=str(error)[:200]))
            return None
        return stored if is_right(path, stored) else None
