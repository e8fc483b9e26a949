"""Listings that are kept for who reads on, and for look-ups of their names."""

from __future__ import annotations

import threading
from collections import OrderedDict

from cernvm.fs.reader import Revision
from cernvm.fs.vfs.attributes import ListedName
from cernvm.fs.vfs.listing import Listing

MAX_KEPT_NAMES = 8192


class KeptListings:
    """The latest listings of one revision, by directory. Concurrency: safe from any thread."""

    def __init__(self, revision: Revision) -> None:
        self._revision = revision
        self._listings: OrderedDict[int, Listing] = OrderedDict()
        self._names: dict[tuple[int, bytes], ListedName] = {}
        self._weight = 0
        self._lock = threading.Lock()

    def listing(self, inode: int, revision: Revision) -> Listing | None:
        """The listing of a directory, if it is kept."""
        return self._listings.get(inode) if revision is self._revision else None

    def name(self, inode: int, name: bytes, revision: Revision) -> ListedName | None:
        """One name of a directory, if it is at hand; None says nothing about whether it exists."""
        return self._names.get((inode, name)) if revision is self._revision else None

    def keep(self, inode: int, listing: Listing, revision: Revision) -> None:
        """Keep a listing; the oldest go, this one stays however long it is."""
        with self._lock:
            if revision is not self._revision:
                self._listings, self._names, self._weight = OrderedDict(), {}, 0
                self._revision = revision
            self._let_go(inode)
            self._listings[inode] = listing
            self._weight += listing.weight
            self._names.update(((inode, listed.name), listed) for listed in listing.at_hand)
            while self._weight > MAX_KEPT_NAMES and len(self._listings) > 1:
                self._let_go(next(iter(self._listings)))

    def _let_go(self, inode: int) -> None:
        gone = self._listings.pop(inode, None)
        if gone is not None:
            self._weight -= gone.weight
            for listed in gone.at_hand:
                self._names.pop((inode, listed.name), None)
