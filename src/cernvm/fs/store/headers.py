"""What HTTP caches on the way are told of a repository's files, whoever serves them.

An object never changes, for its name is its digest; root documents change with every revision, and caches must ask
for them again soon. Source: docs/formats/repository.md.
"""

from __future__ import annotations

ROOT_MAX_AGE_S = 61
DATA_MAX_AGE_S = 3 * 86400


def cache_control(path: str) -> str:
    """The value of `Cache-Control` for a path of a store."""
    if path.startswith(("data/", ".cvmfsalt-")):
        return f"max-age={DATA_MAX_AGE_S}, immutable"
    return f"max-age={ROOT_MAX_AGE_S}"


def content_type(path: str) -> str:
    """The value of `Content-Type` for a path of a store."""
    return "application/json" if path.endswith(".json") else "application/octet-stream"
