"""Fetching what a run wants: packs and small objects into the larder, large ones into the cache."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, FormatError, HostError, TrustError
from cernvm.core.log import fields
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.pack import Pack
from cernvm.fs.reader.ahead.course import Step, Wanted, WantedPack
from cernvm.fs.reader.ahead.packs import PackFlight
from cernvm.fs.reader.ahead.run import Run
from cernvm.fs.reader.ahead.tally import Tally
from cernvm.fs.reader.drafts import SMALL_BYTES, StoredBytes
from cernvm.fs.reader.larder import Larder
from cernvm.fs.reader.objects import ObjectSource, stored_limit
from cernvm.net import Fetcher, Urgency, Want

FETCH_DEADLINE_S = 60.0
MAX_CATALOG_BYTES = 64 << 20  # a larger one is fetched when it is needed
TRY_AGAIN_S = 60.0
MISSING_PACK_S = 3600.0
FOR_EVER_S = float("inf")
MAX_TRIED = 1 << 13
LEAST_GRACE_S = 0.004

log = logging.getLogger(__name__)


class Gatherer:
    """Takes the steps of runs. Concurrency: safe from any thread; `gather` waits for the network."""

    def __init__(
        self, fetcher: Fetcher, objects: ObjectSource, larder: Larder, tally: Tally
    ) -> None:
        self._fetcher = fetcher
        self._objects = objects
        self._larder = larder
        self._tally = tally
        self._tried: OrderedDict[bytes, float] = OrderedDict()  # until when it is not tried again
        self._lock = threading.Lock()

    def is_needless(self, step: Step) -> bool:
        """Whether a step was tried lately, or brings what is here or on its way; if not, it counts as tried."""
        digest = step.key.digest if isinstance(step, Wanted) else step.pack.digest
        now_s = time.monotonic()
        with self._lock:
            if self._tried.get(digest.raw, 0.0) > now_s:
                return True
        if not self._tally.pays(step.way, now_s):
            return True
        if isinstance(step, Wanted) and (
            self._larder.is_foreseen(digest.raw)
            or self._objects.is_on_its_way(step.key)
            or self._objects.holds(step.key)
        ):
            return True
        self._note_tried(digest.raw, TRY_AGAIN_S)
        return False

    def leave_out(self, raw_digest: bytes) -> None:
        """A reader fetches this one itself."""
        self._note_tried(raw_digest, TRY_AGAIN_S)

    def gather(self, run: Run, steps: Sequence[Step]) -> None:
        """Fetch what `Run.next_steps` gave."""
        small = []
        for step in steps:
            if not isinstance(step, Wanted):
                self._gather_pack(run, step)
            elif step.kind is ObjectKind.CATALOG or step.size_bytes > SMALL_BYTES:
                self._gather_large(run, step)
            else:
                small.append(step)
        if small:
            self._gather_small(run, small)

    def _gather_pack(self, run: Run, step: WantedPack) -> None:
        pack = step.pack
        origin = run.source(step.way)
        flight = partial(
            PackFlight,
            pack,
            self._larder,
            origin,
            first_byte_s=self._fetcher.link.rtt_s,
            is_here=self._objects.was_fetched_lately,
        )
        try:
            kept = self._fetcher.fetch_into(
                object_path(pack.digest, ObjectKind.PACK),
                flight,
                limit_bytes=pack.size_bytes,
                deadline=Deadline.after(FETCH_DEADLINE_S),
                urgency=Urgency.BACKGROUND,
            )
        except CvmError as error:
            self._note_failed_pack(pack, error)
            self._tally.failed(step.way)
            run.returned(pack.size_bytes)
        else:
            # The rest nobody will use, and what waits for its use fills the window.
            run.returned(pack.size_bytes - kept.size_bytes)
            self._tally.fetched(step.way, kept.objects, pack.size_bytes)

    def _note_failed_pack(self, pack: Pack, error: CvmError) -> None:
        """A pack that lies is never asked for again; one that is missing not for long."""
        rest_s = TRY_AGAIN_S
        if isinstance(error, TrustError | FormatError):
            rest_s = FOR_EVER_S
        elif isinstance(error, HostError) and error.status in (403, 404, 410):
            rest_s = MISSING_PACK_S
        self._note_tried(pack.digest.raw, rest_s)
        log.info("pack.useless", extra=fields(pack=str(pack.digest), error=str(error)))

    def _gather_large(self, run: Run, step: Wanted) -> None:
        is_catalog = step.kind is ObjectKind.CATALOG  # whose size is a hint only
        try:
            came_bytes = self._objects.fetch_ahead(
                step.key,
                step.kind,
                Deadline.after(FETCH_DEADLINE_S),
                size_bytes=None if is_catalog else step.size_bytes,
                limit_bytes=MAX_CATALOG_BYTES if is_catalog else step.size_bytes,
                origin=run.source(step.way),
                origin_bytes=step.transfer_bytes,
            )
        except CvmError:
            self._tally.failed(step.way)
            came_bytes = 0
        if came_bytes:
            self._tally.fetched(step.way, 1, came_bytes)
        else:
            run.returned(step.transfer_bytes)

    def _gather_small(self, run: Run, steps: Sequence[Wanted]) -> None:
        carrier = _Coming(self._fetcher.link.rtt_s)
        digests = [step.key.digest.raw for step in steps]
        self._larder.expect(digests, carrier)
        wants = [self._want(step) for step in steps]
        try:
            answers = self._fetcher.fetch_many(wants, deadline=Deadline.after(FETCH_DEADLINE_S))
            for step, answer in zip(steps, answers, strict=False):
                if isinstance(answer, CvmError):
                    self._tally.failed(step.way)
                    self._larder.ended([step.key.digest.raw], carrier)
                    run.returned(step.transfer_bytes)
                    continue
                run.returned(step.transfer_bytes - len(answer))
                self._tally.fetched(step.way, 1, len(answer))
                self._larder.put(step.key, answer, step.size_bytes, run.source(step.way))
        finally:
            self._larder.ended(digests, carrier)

    def _want(self, step: Wanted) -> Want[bytes]:
        path = object_path(step.key.digest, step.kind)
        return Want(path, partial(StoredBytes, step.key, path), stored_limit(step.size_bytes))

    def _note_tried(self, raw_digest: bytes, rest_s: float) -> None:
        with self._lock:
            self._tried[raw_digest] = time.monotonic() + rest_s
            self._tried.move_to_end(raw_digest)
            if len(self._tried) > MAX_TRIED:
                self._tried.popitem(last=False)


class _Coming:
    """Small objects under way: each is due a round trip after it was asked for, and nobody waits for a late one."""

    def __init__(self, rtt_s: float) -> None:
        self._due_at_s = time.monotonic() + rtt_s
        self._grace_s = max(rtt_s / 4, LEAST_GRACE_S)

    def due_s(self, _raw_digest: bytes) -> float:
        left_s = self._due_at_s - time.monotonic()
        return max(0.0, left_s) if left_s > -self._grace_s else float("inf")
