"""The answer to `cvm why` as plain values that travel over the control socket.

Source: docs/formats/mount-control.md
"""

from __future__ import annotations

from typing import Any

from cernvm.fs.reader import Why
from cernvm.net import Attempt


def why_row(why: Why) -> dict[str, Any]:
    """What the reader knows of a path, all names and digests as text."""
    return {
        "repository": why.repository,
        "path": _text(why.path) or "/",
        "entry": why.entry,
        "revision": why.revision,
        "root_catalog": str(why.root_catalog),
        "published_age_s": _rounded(why.age_s),
        "checked_age_s": _rounded(why.checked_s),
        "whitelist_s": _rounded(why.whitelist_s),
        "hosts": list(why.hosts),
        "proxy": why.proxy,
        "next": [{"host": route.host, "proxy": route.proxy} for route in why.routes],
        "cache": {
            "quota_bytes": why.cache.quota_bytes,
            "used_bytes": why.cache.used_bytes,
            "pinned_bytes": why.cache.pinned_bytes,
        },
        "ahead": why.ahead,
        "catalogs": [
            {
                "mountpoint": _text(catalog.mountpoint) or "/",
                "digest": str(catalog.digest),
                "cached": catalog.is_cached,
            }
            for catalog in why.catalogs
        ],
        "objects": [
            {
                "object": state.object_path,
                "size_bytes": state.size_bytes,
                "cached": state.is_cached,
                "on_its_way": state.on_its_way,
                "attempts": [_attempt_row(attempt) for attempt in state.attempts],
            }
            for state in why.objects
        ],
        "failures": [
            {
                "at": failure.at.isoformat(timespec="seconds"),
                "error": failure.error,
                "advice": failure.advice,
            }
            for failure in why.failures
        ],
        "revision_error": why.revision_error,
        "revision_attempts": [_attempt_row(attempt) for attempt in why.revision_attempts],
    }


def _attempt_row(attempt: Attempt) -> dict[str, Any]:
    return {
        "url": attempt.url,
        "proxy": attempt.proxy,
        "error": attempt.error,
        "took_s": _rounded(attempt.took_s),
    }


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
