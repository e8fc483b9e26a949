"""The profiles of the revision that is shown: fetched once, then every read of their first files is watched."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError
from cernvm.core.log import fields
from cernvm.fs.cache import ContentKey
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.profile import MAX_PROFILE_BYTES, Profile, parse_profile
from cernvm.fs.reader.ahead.recognition import Recognition
from cernvm.fs.reader.larder import UNHEARD
from cernvm.fs.reader.objects import ObjectSource
from cernvm.fs.reader.revision import Revision

MAX_PROFILES = 64
MAX_ACCESSES = 1 << 17  # of all together; some 60 MB
LOAD_DEADLINE_S = 20.0
REMEMBER_S = 10.0
BEGIN_AGAIN_S = 60.0
MAX_REMEMBERED = 256

log = logging.getLogger(__name__)


class Profiles:
    """Watches for beginnings and calls `begin` with the profile, not more often than makes sense.

    Concurrency: `load` by one thread at a time; reads are noted by any.
    """

    def __init__(self, objects: ObjectSource, begin: Callable[[Profile], None]) -> None:
        self._objects = objects
        self._begin = begin
        self._recognition = Recognition(())
        self._begun_s: dict[str, float] = {}
        # What was read before the profiles were here: a program may start as soon as the mount answers.
        self._before: deque[tuple[float, bytes]] = deque(maxlen=MAX_REMEMBERED)

    def note_miss(self, raw_digest: bytes) -> None:
        """An object is fetched for a reader."""
        self._before.append((time.monotonic(), raw_digest))

    def load(self, revision: Revision) -> None:
        """Fetch the profiles of a revision, and watch for these from now on; what cannot be had is left out."""
        profiles = list(self._fetch(revision))
        self._recognition = Recognition(profiles)
        self._objects.watched = {raw: partial(self._read, raw) for raw in self._recognition.digests}
        earliest_s = time.monotonic() - REMEMBER_S
        for at_s, raw in list(self._before):
            if at_s >= earliest_s:
                self._read(raw)

    def _fetch(self, revision: Revision) -> Iterator[Profile]:
        try:
            root = revision.tree.try_folder(b"")
            named = {} if root is None else root.profiles()
        except CvmError as error:
            log.warning("profiles.unreadable", extra=fields(error=str(error)))
            return
        deadline = Deadline.after(LOAD_DEADLINE_S)
        accesses = 0
        for label, digest in sorted(named.items())[:MAX_PROFILES]:
            key = ContentKey(digest)
            try:
                self._objects.fetch_ahead(
                    key,
                    ObjectKind.PROFILE,
                    deadline,
                    size_bytes=None,
                    limit_bytes=MAX_PROFILE_BYTES,
                    origin=UNHEARD,
                )
                content = self._objects.cached(key, limit_bytes=MAX_PROFILE_BYTES)
                if content is not None:
                    profile = parse_profile(content.pread(0, content.size_bytes), label=label)
                    accesses += len(profile.accesses)
                    if accesses > MAX_ACCESSES:
                        log.warning("profiles.too_many", extra=fields(label=label))
                        return
                    yield profile
            except CvmError as error:
                log.info("profile.useless", extra=fields(label=label, error=str(error)))

    def _read(self, raw_digest: bytes) -> None:
        now_s = time.monotonic()
        for profile in self._recognition.read(raw_digest):
            if now_s - self._begun_s.get(profile.label, -BEGIN_AGAIN_S) >= BEGIN_AGAIN_S:
                self._begun_s[profile.label] = now_s
                log.info("profile.begun", extra=fields(label=profile.label))
                self._begin(profile)
