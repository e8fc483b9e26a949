"""Holding a store that has no locks: an object that says who holds it, renewed while the holder lives.

A holder renews its record long before the lease is over; who finds a record that nobody renewed takes the store over.
Ages are those that the store tells, so that no two machines need the same time. Where the store writes on conditions
(HTTP's If-Match), exactly one of several contenders wins. Where it does not, a contender writes its record, waits, and
looks whose record stands; two may then both believe themselves holder only where a write took longer than that wait.
Format: docs/formats/stores.md, "The holder".
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cernvm.core.errors import LeaseLostError, TransactionOpenError, UnavailableError
from cernvm.core.log import fields
from cernvm.core.process import Record, describe_process

log = logging.getLogger(__name__)

LEASE_S = 60.0
SETTLE_S = 1.0
_POLL_S = 0.5
_LONGEST_LEASE_S = 24 * 3600.0
_WHAT = "publisher"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
# Holds of this process that have ended, whose record could not be removed.
_given_up: set[str] = set()


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as it was found.

    Shape: `tag` changes with every write; `age_s` is the time since the last one, None where the store does not tell.
    """

    data: bytes
    tag: str
    age_s: float | None


class Seat(Protocol):
    """The place in a store where the holder's record lies."""

    @property
    def heeds_conditions(self) -> bool:
        """Whether `take` never overwrites another record than the one that was seen."""

    def look(self) -> Seen | None:
        """The record that stands."""

    def take(self, data: bytes, over: str | None) -> str | None:
        """Write a record over the one with that tag (None: over nothing); its tag, or None where another stands."""

    def leave(self) -> None:
        """Remove the record."""


class Lease:
    """One process's hold on a store. Concurrency: `check` from any thread."""

    def __init__(
        self, seat: Seat, *, store: str, lease_s: float = LEASE_S, settle_s: float = SETTLE_S
    ) -> None:
        self._seat = seat
        self._store = store
        self._lease_s = lease_s
        self._settle_s = settle_s
        self._holder = secrets.token_hex(16)
        self._renewals = 0
        self._tag = ""
        self._good_until = 0.0
        self._is_lost = False
        self._renewing = threading.Lock()

    @contextmanager
    def held(self, wait_s: float) -> Iterator[None]:
        """Hold the store; `TransactionOpenError` where another one holds it for `wait_s` to come."""
        try:
            self._acquire(wait_s)
        except UnavailableError:
            _given_up.add(self._holder)  # it may have been written nevertheless
            raise
        ended = threading.Event()
        renewer = threading.Thread(
            target=self._renew_until, args=(ended,), name="store lease", daemon=True
        )
        renewer.start()
        try:
            yield
        finally:
            ended.set()
            renewer.join()
            self._release()

    def check(self) -> None:
        """Make sure that the store is held, for a sixth of the lease to come; `LeaseLostError` if it is not."""
        if _now() < self._good_until and not self._is_lost:
            return
        self._renew()
        if self._is_lost or _now() >= self._good_until:
            raise LeaseLostError(
                f"{self._store} is held by another publisher since this one was stopped or cut off",
                advice="nothing was published; publish again",
            )

    def _acquire(self, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while True:
            seen = self._seat.look()
            if (seen is None or self._is_over(seen)) and self._sit_down(seen):
                return
            if time.monotonic() >= until:
                raise self._busy(seen or self._seat.look())
            time.sleep(min(_POLL_S, max(0.0, until - time.monotonic())))

    def _sit_down(self, seen: Seen | None) -> bool:
        if not self._write(None if seen is None else seen.tag):
            return False
        if self._seat.heeds_conditions:
            return True
        time.sleep(self._settle_s)
        return self._is_ours(self._seat.look())

    def _write(self, over: str | None) -> bool:
        began = _now()
        self._renewals += 1
        tag = self._seat.take(self._record(), over)
        if tag is None:
            return False
        self._tag = tag
        self._good_until = began + self._lease_s * 5 / 6
        return True

    def _renew_until(self, ended: threading.Event) -> None:
        while not ended.wait(self._lease_s / 4) and not self._is_lost:
            self._renew()

    def _renew(self) -> None:
        with self._renewing:
            try:
                if not self._seat.heeds_conditions and not self._is_ours(self._seat.look()):
                    self._is_lost = True
                elif not self._write(self._tag):
                    # a write whose answer was lost counts as well
                    seen = self._seat.look()
                    if seen is not None and self._is_ours(seen):
                        self._tag = seen.tag
                    else:
                        self._is_lost = True
            except UnavailableError as error:
                log.warning("store.lease_not_renewed", extra=fields(error=str(error)))

    def _release(self) -> None:
        try:
            if not self._is_lost and self._is_ours(self._seat.look()):
                self._seat.leave()
        except UnavailableError as error:  # then it runs out by itself
            _given_up.add(self._holder)
            log.warning("store.lease_left", extra=fields(error=str(error)))

    def _is_ours(self, seen: Seen | None) -> bool:
        return seen is not None and _parse(seen.data).get("holder") == self._holder

    def _is_over(self, seen: Seen) -> bool:
        record = _parse(seen.data)
        lease_s = record.get("lease_s")
        bound_s = LEASE_S
        if isinstance(lease_s, int | float) and 0 < lease_s <= _LONGEST_LEASE_S:
            bound_s = lease_s
        age_s = seen.age_s
        if age_s is None:  # by the clocks of the two publishers, which have to agree then
            written_at = record.get("written_at")
            age_s = time.time() - written_at if isinstance(written_at, int | float) else 0.0
        is_given_up = record.get("holder") in _given_up
        return is_given_up or age_s > bound_s or _is_dead(record)

    def _busy(self, seen: Seen | None) -> TransactionOpenError:
        record = {} if seen is None else _parse(seen.data)
        who = f" (process {record.get('pid')} on {record.get('host')})" if record else ""
        return TransactionOpenError(
            f"another publisher{who[:100]} is at work in {self._store}",
            advice="wait until it has finished, then publish again; "
            f"if it died, the store is free after {self._lease_s:g} s",
        )

    def _record(self) -> bytes:
        process = describe_process(os.getpid(), _WHAT)
        record = {
            "holder": self._holder,
            "renewals": self._renewals,
            "lease_s": self._lease_s,
            "written_at": time.time(),
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": process.pid,
            "started": process.started,
        }
        return json.dumps(record, indent=1).encode() + b"\n"


def _parse(data: bytes) -> dict[str, object]:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_dead(record: dict[str, object]) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    pid, started = record.get("pid"), record.get("started")
    if not (isinstance(pid, int) and isinstance(started, int)):
        return False
    return record.get("machine") == _machine() and not Record(pid, started, _WHAT).is_alive


def _machine() -> str:
    """What tells whether a process's number means the same process: this boot, this namespace of processes."""
    namespace = Path("/proc/self/ns/pid").readlink()
    return f"{_BOOT.read_text().strip()} {namespace}"


def _now() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
