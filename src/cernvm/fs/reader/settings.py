"""What may be chosen about reading a repository, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cernvm.fs.reader.pin import Pin


@dataclass(frozen=True, slots=True)
class AheadSettings:
    """What may be fetched before a reader asks for it.

    Shape: `quota_share` is the part of the cache's quota that may hold what nobody has asked for yet.
    Units: `larder_bytes` bounds what waits in memory, as stored.
    """

    read_ahead: bool = True
    packs: bool = True
    profiles: bool = True
    larder_bytes: int = 16 << 20
    quota_share: float = 0.1


NOTHING_AHEAD = AheadSettings(read_ahead=False, packs=False, profiles=False)


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """What vouches for a repository, and how it is read.

    Shape: `public_keys` are PEM files, any may vouch; `blacklists` are files, which need not exist; with `second_keys`,
    PEM files, one of them must have made a second signature.
    Units: `max_ttl_s` bounds the time between two looks for a newer revision; None: as its publisher says.
    """

    public_keys: tuple[Path, ...]
    ahead: AheadSettings = field(default_factory=AheadSettings)
    pin: Pin = field(default_factory=Pin)
    max_ttl_s: float | None = None
    blacklists: tuple[Path, ...] = ()
    second_keys: tuple[Path, ...] = ()
