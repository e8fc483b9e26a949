"""Two caches, one above the other: a fast one of this machine over one that others fill too.

Source: docs/formats/cache.md, "Tiers".
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cernvm.core.errors import CvmError, HostError, SpaceError
from cernvm.core.log import fields
from cernvm.fs.cache.port import Cache, Content, ContentKey, Draft, Rank, Usage

MAX_LIFTED_BYTES = 1 << 20  # what is larger gains little from being nearer, and would push out much

log = logging.getLogger(__name__)


class TieredCache:
    """A `Cache` that looks into `upper`, then into `lower`; small hits below are lifted up.

    What is fetched goes into both when `writes_lower`; a lower cache that cannot take it harms nobody.
    """

    def __init__(self, upper: Cache, lower: Cache, *, writes_lower: bool) -> None:
        self._upper = upper
        self._lower = lower
        self._writes_lower = writes_lower

    def open(self, key: ContentKey) -> Content | None:
        content = self._upper.open(key)
        if content is not None:
            return content
        content = self._lower.open(key)
        if content is not None and content.size_bytes <= MAX_LIFTED_BYTES:
            return self._lift(key, content)
        return content

    def draft(self, key: ContentKey, *, rank: Rank = Rank.REGULAR) -> Draft:
        upper = self._upper.draft(key, rank=rank)
        return (
            _BothDrafts(upper, self._lower.draft(key, rank=rank)) if self._writes_lower else upper
        )

    def put_small(self, key: ContentKey, data: bytes, *, rank: Rank = Rank.REGULAR) -> Content:
        if self._writes_lower:
            self._lower.put_small(key, data, rank=rank)
        return self._upper.put_small(key, data, rank=rank)

    def pin(self, key: ContentKey) -> None:
        self._upper.pin(key)
        self._lower.pin(key)

    def unpin(self, key: ContentKey) -> None:
        self._upper.unpin(key)
        self._lower.unpin(key)

    def evict(self, key: ContentKey) -> None:
        self._upper.evict(key)
        self._lower.evict(key)

    def usage(self) -> Usage:
        """The upper cache's: the lower one has no quota."""
        return self._upper.usage()

    def close(self) -> None:
        try:
            self._upper.close()
        finally:
            self._lower.close()

    def _lift(self, key: ContentKey, content: Content) -> Content | None:
        try:
            data = content.pread(0, content.size_bytes)
        except HostError as error:
            log.warning("cache.lower_not_read", extra=fields(name=key.name, error=str(error)))
            return None
        if len(data) < content.size_bytes:  # somebody is cutting it just now
            return content
        draft = self._upper.draft(key)
        try:
            draft.write(data)
            return draft.commit()
        except CvmError as error:
            log.info("cache.not_lifted", extra=fields(name=key.name, error=str(error)))
            draft.discard()
            return content


class _BothDrafts:
    """One draft per tier; the upper one decides."""

    def __init__(self, upper: Draft, lower: Draft) -> None:
        self._upper = upper
        self._lower: Draft | None = lower

    def write(self, data: bytes, /) -> None:
        self._upper.write(data)
        self._try_lower(lambda lower: lower.write(data))

    def commit(self) -> Content:
        content = self._upper.commit()
        self._try_lower(lambda lower: lower.commit())
        return content

    def discard(self) -> None:
        self._upper.discard()
        if self._lower is not None:
            self._lower.discard()

    def _try_lower(self, step: Callable[[Draft], object]) -> None:
        if self._lower is None:
            return
        try:
            step(self._lower)
        except SpaceError as error:
            log.warning("cache.lower_not_written", extra=fields(error=str(error)))
            self._lower.discard()
            self._lower = None
