"""What can be asked about a mount, and done to it, from outside: the parts behind `cvm talk` and `cvm metrics`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cernvm.fs.client import Client
from cernvm.fs.mount.record import MountRecord
from cernvm.fs.mount.settings import MountSettings


@dataclass(frozen=True, slots=True)
class Inspection:
    """A living mount's parts. Shape: `reload` looks for a newer revision and says whether the tree has changed."""

    settings: MountSettings
    record: MountRecord
    client: Client
    reload: Callable[[], bool]
    started_s: float = field(default_factory=time.time)
