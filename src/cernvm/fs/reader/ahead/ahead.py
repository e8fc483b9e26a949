"""Fetching before anybody asks: what readers miss starts runs, and a few threads fetch what these want."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cernvm.fs.cache import Cache
from cernvm.fs.format.profile import Profile
from cernvm.fs.reader.ahead.course import Step, Wanted, directory, surroundings, walk
from cernvm.fs.reader.ahead.crew import Crew
from cernvm.fs.reader.ahead.gathering import Gatherer
from cernvm.fs.reader.ahead.profiles import Profiles
from cernvm.fs.reader.ahead.recognition import profile_steps
from cernvm.fs.reader.ahead.run import Run
from cernvm.fs.reader.ahead.survey import Surveyor
from cernvm.fs.reader.ahead.tally import Tally, Way
from cernvm.fs.reader.ahead.trail import NEAR_S, Trail
from cernvm.fs.reader.ahead.window import LARGEST_BYTES, Window, first_window
from cernvm.fs.reader.catalog import Catalog
from cernvm.fs.reader.larder import Larder, Ration
from cernvm.fs.reader.objects import ObjectSource
from cernvm.fs.reader.pieces import Piece
from cernvm.fs.reader.revision import Revision
from cernvm.fs.reader.settings import AheadSettings
from cernvm.net import Fetcher

MAX_THREADS = 8
PROFILE_BYTES = 8 << 20  # a program that has begun reads nearly all of it
MAX_RUNS = 8
MAX_MISSES = 64
FULL = 0.4  # of the larder
STOCK_AFTER_S = 2.0
STOCK_AT_ONCE = 64
MAX_NESTED_AHEAD = 8
MAX_NESTED_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Miss:
    """A file that a reader waits for; `following` are its chunks after the one that is missed."""

    revision: Revision
    path: bytes
    following: Sequence[Piece]
    is_later_chunk: bool

    @property
    def folder(self) -> bytes:
        """Its directory."""
        return self.path.rpartition(b"/")[0]


class Ahead:
    """All that is fetched ahead for one repository. Concurrency: safe from any thread; no verb waits."""

    def __init__(
        self,
        settings: AheadSettings,
        fetcher: Fetcher,
        cache: Cache,
        objects: ObjectSource,
        larder: Larder,
    ) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._cache = cache
        self._objects = objects
        self._larder = larder
        larder.overflow = self._give_up
        self._tally = Tally()
        self._surveyor = Surveyor(has_packs=settings.packs)
        self._gatherer = Gatherer(fetcher, objects, larder, self._tally)
        self._trail = Trail()
        self._profiles = Profiles(objects, self._begin_profile)
        self._unloaded: Revision | None = None
        self._misses: deque[Miss] = deque(maxlen=MAX_MISSES)
        self._runs: OrderedDict[bytes, Run] = OrderedDict()
        self._lock = threading.Lock()
        self._planning = threading.Lock()
        self._crew = Crew(self._fetch_some, self._stock_some, limit=MAX_THREADS)

    def missed(self, revision: Revision, path: bytes, pieces: Sequence[Piece], offset: int) -> None:
        """A reader waits for this part of a file: more of the kind may be wanted soon."""
        at = next((n for n, p in enumerate(pieces) if offset < p.offset + p.size_bytes), None)
        if at is None:
            return
        raw_digest = pieces[at].key.digest.raw
        self._profiles.note_miss(raw_digest)
        if not self._settings.read_ahead or self._larder.is_foreseen(raw_digest):
            return  # if it comes already, the run that it belongs to hears of its use
        self._gatherer.leave_out(raw_digest)
        self._misses.append(Miss(revision, path, pieces[at + 1 :], at > 0))
        self._crew.wake()

    def shown(self, revision: Revision) -> None:
        """A revision is shown from now on: programs whose profiles it has may begin."""
        if self._settings.profiles:
            self._unloaded = revision
            self._crew.wake()

    def attached(self, catalog: Catalog) -> None:
        """A reader came to a catalog, and may go on into those below."""
        nested = catalog.nested.values()
        size_bytes = sum(reference.size_bytes for reference in nested)
        is_little = len(nested) <= MAX_NESTED_AHEAD and size_bytes <= MAX_NESTED_BYTES
        if self._settings.read_ahead and nested and is_little:
            steps = [Wanted.catalog(reference) for reference in nested]
            self.begin(b"\0\0" + catalog.mountpoint, iter(steps), Window(LARGEST_BYTES))

    def begin(
        self, name: bytes, steps: Iterator[Step], window: Window, *, is_ordered: bool = True
    ) -> None:
        """Begin a run; one of the same name ends."""
        run = Run(steps, window, self._tally, self._crew.wake, is_ordered=is_ordered)
        with self._lock:
            self._runs[name] = run
            self._runs.move_to_end(name)
            if len(self._runs) > MAX_RUNS:
                self._runs.popitem(last=False)
        self._crew.wake()

    def counters(self) -> dict[str, Any]:
        """What was fetched ahead and what came of it, as plain values."""
        return {
            "ways": self._tally.rows(),
            "waiting_bytes": self._larder.size_bytes,
            "threads": self._crew.count,
        }

    @property
    def tally(self) -> Tally:
        """The figures alone."""
        return self._tally

    def close(self) -> None:
        """Begin nothing more; what is under way ends by itself."""
        self._crew.close()

    def _give_up(self, ration: Ration) -> None:
        """What is pushed out by what came later is lost: most likely nobody wants it."""
        ration.origin.wasted(len(ration.stored))

    def _stock(self, ration: Ration) -> None:
        """What nobody read for a while goes into the cache, as long as that keeps nothing else out."""
        ration.origin.wasted(len(ration.stored))
        usage = self._cache.usage()
        size_bytes = max(ration.content_bytes, len(ration.stored))
        limit_bytes = usage.quota_bytes * (1 - self._settings.quota_share)
        if usage.used_bytes + size_bytes <= limit_bytes:
            self._objects.stock(ration)

    def _fetch_some(self) -> bool:
        """Take the next steps of the run that was begun last and has room; False when there are none."""
        with self._planning:
            unloaded, self._unloaded = self._unloaded, None
            while self._misses:
                self._follow(self._misses.popleft())
            found = self._next_steps()
        if found is None and unloaded is None:
            return False
        self._crew.wake()  # another one may find more to do
        if unloaded is not None:
            self._profiles.load(unloaded)
        if found is not None:
            self._gatherer.gather(*found)
        return True

    def _begin_profile(self, profile: Profile) -> None:
        self.begin(b"\0" + profile.label.encode(), profile_steps(profile), Window(PROFILE_BYTES))

    def _next_steps(self) -> tuple[Run, Sequence[Step]] | None:
        with self._lock:
            runs = list(reversed(self._runs.items()))
        # What has waited longest is what a walk wants next, so walks must not push each other's out.
        ordered_bytes = sum(run.window.unused_bytes for _, run in runs if run.is_ordered)
        is_full = ordered_bytes > FULL * self._larder.limit_bytes
        for name, run in runs:
            if is_full and run.is_ordered:
                continue
            steps = run.next_steps(self._gatherer.is_needless)
            if steps:
                return run, steps
            if run.is_over:
                with self._lock:
                    if self._runs.get(name) is run:
                        del self._runs[name]
        return None

    def _follow(self, miss: Miss) -> None:
        """Begin the runs that a miss foretells; what is still in the window of the directory's last one counts on."""
        link = self._fetcher.link
        survey = partial(self._surveyor.folder, miss.revision.tree)
        evidence = self._trail.note(miss.path, survey(miss.folder))
        if not evidence.suffices(link.rtt_s):
            return
        window = first_window(link.rtt_s, link.bytes_per_s, is_walk=evidence.is_walk)
        is_far = link.rtt_s >= NEAR_S
        if miss.following and (miss.is_later_chunk or is_far):
            chunks = (Wanted.piece(Way.CHUNK, piece) for piece in miss.following)
            self.begin(miss.path, chunks, Window(window.size_bytes))
        with self._lock:
            last = self._runs.get(miss.folder)
        # A pack brings a good part of the surroundings by itself.
        looks_around = is_far and not evidence.has_packs
        course = walk if evidence.is_walk else surroundings if looks_around else directory
        if last is not None:
            window = last.window
        steps = course(miss.path, survey)
        self.begin(miss.folder, steps, window, is_ordered=evidence.is_walk)

    def _stock_some(self) -> bool:
        """While nobody reads: move what has waited for a while into the cache, which frees its memory."""
        rations = self._larder.take_older_than(STOCK_AFTER_S, STOCK_AT_ONCE)
        for ration in rations:
            self._stock(ration)
        return bool(rations)
