"""What a check tells: one value per thing that is wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or, if `is_note`, only worth to know: it makes a repository neither wrong nor unsafe.

    Shape: `path` is in the repository, None for what has none; `place` in the store, empty where that is unknown.
    """

    what: str
    path: bytes | None = None
    place: str = ""
    is_note: bool = False
