"""All that may be chosen about one repository's client; every room below adds its own part."""

from __future__ import annotations

from dataclasses import dataclass, field

from cernvm.fs.cache import CacheSettings
from cernvm.fs.peers.settings import PeerSettings
from cernvm.fs.reader import ReaderSettings
from cernvm.fs.vfs import ViewSettings
from cernvm.net import NetSettings


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Where a repository comes from, what vouches for it, where it is kept and how it looks."""

    repository: str
    net: NetSettings
    cache: CacheSettings
    reader: ReaderSettings
    view: ViewSettings = field(default_factory=ViewSettings)
    peers: PeerSettings = field(default_factory=PeerSettings)
