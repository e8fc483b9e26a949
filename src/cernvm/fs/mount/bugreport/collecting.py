"""Asking many sources at once, each in a process of its own, so that one that hangs holds up nobody."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cernvm.fs.mount.bugreport.archive import MAX_PAGE_BYTES, Page
from cernvm.fs.mount.bugreport.sources import Source

SOURCE_DEADLINE_S = 2.0
DEADLINE_S = 8.0  # of all; packing takes its time too

_AT_ONCE = 8
_REAPING_S = 0.1
_PART_BYTES = 65536
_FAILED = "failed: "


def collect(sources: Sequence[Source], *, deadline_s: float = DEADLINE_S) -> Iterator[Page]:
    """A page for each source, as they come; those that were late, or failed, say so.

    Concurrency: call from a process of one thread, since it forks.
    """
    end = time.monotonic() + deadline_s
    waiting, asked = list(reversed(sources)), dict[int, _Child]()
    try:
        while waiting or asked:
            now = time.monotonic()
            while waiting and len(asked) < _AT_ONCE and now < end:
                child = _Child.start(waiting.pop(), min(now + SOURCE_DEADLINE_S, end))
                asked[child.descriptor] = child
            if now >= end and not asked:
                yield from (Page(source.name, note="not asked: time was up") for source in waiting)
                return
            nearest_s = max(0.0, min(child.until for child in asked.values()) - now)
            readable, _, _ = select.select(list(asked), [], [], nearest_s)
            for child in list(asked.values()):
                is_over = child.descriptor in readable and child.receive()
                if is_over or time.monotonic() >= child.until:
                    del asked[child.descriptor]
                    yield child.end(in_time=is_over)
    finally:
        for child in asked.values():
            child.end(in_time=False)


@dataclass(slots=True)
class _Child:
    """A process that asks one source and writes what it hears into a pipe."""

    source: Source
    pid: int
    descriptor: int
    until: float
    begun: float
    data: bytearray = field(default_factory=bytearray)

    @classmethod
    def start(cls, source: Source, until: float) -> _Child:
        ours, theirs = os.pipe()
        begun = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            os.close(ours)
            _answer(source, theirs)
        with suppress(OSError):
            os.setpgid(pid, pid)  # whoever is first: programs that it starts end with it
        os.close(theirs)
        return cls(source, pid, ours, until, begun)

    def receive(self) -> bool:
        """Take what there is; whether that was all."""
        part = os.read(self.descriptor, _PART_BYTES)
        self.data += part
        return not part or len(self.data) > MAX_PAGE_BYTES

    def end(self, *, in_time: bool) -> Page:
        """What it said. A process that the kernel does not let go is left to init."""
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        os.close(self.descriptor)
        patience = time.monotonic() + _REAPING_S
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0 and time.monotonic() < patience:
            time.sleep(0.001)
        took_s = time.monotonic() - self.begun
        note = "" if in_time else f"no answer within {took_s:.1f} s"
        if len(self.data) > MAX_PAGE_BYTES:
            note = "cut"
        text = bytes(self.data[:MAX_PAGE_BYTES]).decode("utf-8", "replace")
        if text.startswith(_FAILED):
            note = text.strip()
        return Page(self.source.name, text, took_s, note)


def _answer(source: Source, descriptor: int) -> None:
    """Write the source's answer and end this process."""
    try:
        try:
            text = source.read()
        except BaseException as error:  # whatever ails a source, the others are asked
            text = f"{_FAILED}{type(error).__name__}: {error}\n"
            raise
        finally:
            data = memoryview(text.encode("utf-8", "backslashreplace")[: MAX_PAGE_BYTES + 1])
            while data:
                data = data[os.write(descriptor, data) :]
    finally:
        os._exit(0)
