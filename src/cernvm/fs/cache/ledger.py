"""What this process knows of the cache and the index does not yet: additions, uses, pins."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping

from cernvm.fs.cache.content import Ghosts
from cernvm.fs.cache.index import News, Row, Settled
from cernvm.fs.cache.port import Rank

MAX_ADDED = 512
MAX_USED = 20_000


class Ledger:
    """The news of one process, until the index has them. Concurrency: safe from any thread."""

    def __init__(self) -> None:
        self.ghosts = Ghosts()
        self._lock = threading.Lock()
        self._added: dict[str, Row] = {}
        self._added_bytes = 0
        self._used: dict[str, None] = {}
        self._pins: Counter[str] = Counter()
        # Without a lock: an unpin comes from wherever a catalog's last user lets go of it.
        self._pin_steps: deque[tuple[str, int]] = deque()
        self._unpinned: dict[str, None] = {}
        self._settled = Settled(0, 0, 0)
        self._told_ghost_bytes = 0

    def add(self, name: str, row: Row) -> None:
        """Note new content, or new bytes of known content."""
        with self._lock:
            known = self._added.pop(name, None)
            self._added_bytes += row.size_bytes - (known.size_bytes if known else 0)
            self._added[name] = row
            if row.rank is not Rank.AHEAD:
                self._used.pop(name, None)
                self._used[name] = None

    def use(self, name: str) -> None:
        """Move content to the end of the order of use."""
        with self._lock:
            self._used.pop(name, None)
            self._used[name] = None

    def pin(self, name: str, step: int) -> None:
        """Count a pin, or one less with -1."""
        self._pin_steps.append((name, step))

    def forget(self, name: str) -> None:
        """Drop content that is gone again."""
        with self._lock:
            known = self._added.pop(name, None)
            self._added_bytes -= known.size_bytes if known else 0

    @property
    def used_bytes(self) -> int:
        """What the cache takes, as far as this process knows, ghosts included."""
        with self._lock:
            ghosts = self.ghosts.size_bytes - self._told_ghost_bytes
            return self._settled.used_bytes + self._added_bytes + ghosts

    @property
    def pinned_bytes(self) -> int:
        """What could not be evicted when the index was last told."""
        return self._settled.pinned_bytes

    @property
    def has_news(self) -> bool:
        """Whether there is something to tell."""
        with self._lock:
            has_ghosts = self._told_ghost_bytes != self.ghosts.size_bytes
        return bool(has_ghosts or self._added or self._used or self._unpinned or self._pin_steps)

    @property
    def is_long(self) -> bool:
        """Whether it is time to tell."""
        return len(self._added) >= MAX_ADDED or len(self._used) >= MAX_USED

    def take(self, owner: str) -> News:
        """All news, which the caller tells the index or brings back."""
        with self._lock:
            self._count_pins()
            news = News(
                owner,
                self._added,
                list(self._used),
                pinned=list(self._pins),
                unpinned=list(self._unpinned),
                ghost_bytes=self.ghosts.size_bytes,
            )
            self._added, self._used, self._unpinned = {}, {}, {}
            # The bytes stay counted until `settle` says that the index has them.
            return news

    def settle(self, news: News, settled: Settled) -> None:
        """The index has taken the news."""
        with self._lock:
            self._settled = settled
            self._told_ghost_bytes = news.ghost_bytes
            self._added_bytes = sum(row.size_bytes for row in self._added.values())

    def bring_back(self, news: News) -> None:
        """The index could not take the news: they are told again later; old uses are forgotten rather than piled up."""
        with self._lock:
            self._added = {**news.added, **self._added}
            self._added_bytes = sum(row.size_bytes for row in self._added.values())
            if len(self._used) < MAX_USED:
                self._used = dict.fromkeys([*news.used, *self._used])
            self._unpinned = dict.fromkeys([*news.unpinned, *self._unpinned])

    def oldest_added(self) -> Mapping[str, Row]:
        """The older half of the additions that the index has not heard of."""
        with self._lock:
            names = list(self._added)[: (len(self._added) + 1) // 2]
            return {name: self._added[name] for name in names}

    def _count_pins(self) -> None:
        while self._pin_steps:
            name, step = self._pin_steps.popleft()
            self._pins[name] += step
            if self._pins[name] > 0:
                self._unpinned.pop(name, None)
            else:
                del self._pins[name]
                self._unpinned[name] = None
