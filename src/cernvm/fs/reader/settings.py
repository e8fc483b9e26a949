"""What may be chosen about reading a repository, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """What vouches for a repository, and how it is read. Shape: `public_keys` are PEM files, any may vouch."""

    public_keys: tuple[Path, ...]
