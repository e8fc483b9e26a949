"""Telling who wants to know that a repository has a new revision, whoever published it and how.

The manifest in the store is what counts: it is looked at every other second while somebody listens, and at once after
a commit or when somebody says that there is a new one.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any

from cernvm.core.clock import Clock
from cernvm.core.errors import ConflictError, CvmError

MAX_LISTENERS = 64
MAX_LISTENING_S = 7200.0
LOOK_EVERY_S = 2.0


class Notices:
    """The last manifest of each repository, by `read`. Concurrency: safe from several threads."""

    def __init__(self, read: Callable[[str], bytes], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._changed = threading.Condition()
        self._known: dict[str, tuple[float, bytes]] = {}
        self._listeners = threading.BoundedSemaphore(MAX_LISTENERS)

    def look(self, name: str) -> None:
        """Look now whether a repository has a new manifest."""
        with self._changed:
            self._known.pop(name, None)
            self._changed.notify_all()

    def listen(self, name: str) -> Generator[dict[str, Any] | None, None, None]:
        """An activity for the revision that stands and for each new one; None whenever there was none for a while.

        Errors: `ConflictError` while too many listen.
        """
        if not self._listeners.acquire(blocking=False):
            raise ConflictError(f"{MAX_LISTENERS} listen already")
        try:
            ends_at = time.monotonic() + MAX_LISTENING_S
            seen = b""
            while time.monotonic() < ends_at:
                manifest = self._manifest(name) or seen
                if manifest != seen:
                    seen = manifest
                    yield describe_activity(name, manifest, self._clock.now())
                yield None
                with self._changed:
                    if self._known.get(name) is not None:
                        self._changed.wait(LOOK_EVERY_S)
        finally:
            self._listeners.release()

    def _manifest(self, name: str) -> bytes:
        """The manifest, read once for all who listen; empty where it cannot be read just now."""
        with self._changed:
            looked_at, manifest = self._known.get(name, (0.0, b""))
        if manifest and time.monotonic() - looked_at < LOOK_EVERY_S:
            return manifest
        try:
            manifest = self._read(name)
        except CvmError:
            manifest = b""
        with self._changed:
            self._known[name] = (time.monotonic(), manifest)
        return manifest


def describe_activity(name: str, manifest: bytes, now: datetime) -> dict[str, Any]:
    """What is told of a new revision."""
    return {
        "version": 1,
        "timestamp": f"{now:%a, %d %b %Y %H:%M:%S} GMT",
        "type": "activity",
        "repository": name,
        "manifest": base64.b64encode(manifest).decode(),
    }
