"""Who has asked us for an object that we do not have, and so will have it soon: to them we send who asks next. Pure."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict

from cernvm.fs.peers.peer import Peer

MAX_PATHS = 1 << 14
MAX_HOLDERS = 8


class Hearsay:
    """Objects' paths and their likely holders, the least recently asked for forgotten first.

    Concurrency: safe from any thread.
    """

    def __init__(self, source: random.Random | None = None) -> None:
        self._holders: OrderedDict[str, tuple[Peer, ...]] = OrderedDict()
        self._source = source or random.Random()
        self._lock = threading.Lock()

    def asked(self, path: str, peer: Peer) -> None:
        """A peer has asked for it."""
        with self._lock:
            others = [holder for holder in self._holders.pop(path, ()) if holder != peer]
            self._holders[path] = (*others[-MAX_HOLDERS + 1 :], peer)
            if len(self._holders) > MAX_PATHS:
                self._holders.popitem(last=False)

    def holder(self, path: str, besides: Peer | None = None) -> Peer | None:
        """Any of those who asked, but for the one who asks now."""
        holders = [holder for holder in self._holders.get(path, ()) if holder != besides]
        return self._source.choice(holders) if holders else None
