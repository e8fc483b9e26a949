"""All that may be chosen about one mount, in a form that crosses to the process that serves it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from cernvm.core.config import build, plain
from cernvm.fs.client import ClientSettings
from cernvm.fs.fuse import KernelSettings
from cernvm.fs.mount.authorization import AuthorizationSettings


@dataclass(frozen=True, slots=True)
class MountSettings:
    """Where a repository is to be mounted; `run` is the folder for what is true while the mount lives.

    Shape: `talk` is the socket for the original's commands; None: below `run`. A mount that `is_held` outlives the
    process that serves it.
    """

    client: ClientSettings
    point: Path
    run: Path
    kernel: KernelSettings = field(default_factory=KernelSettings)
    talk: Path | None = None
    authorization: AuthorizationSettings = field(default_factory=AuthorizationSettings)
    is_held: bool = True

    @property
    def repository(self) -> str:
        """The repository's name."""
        return self.client.repository

    def to_json(self) -> str:
        """As `from_json` reads it. It may hold secrets: never an argument, never in a log."""
        return json.dumps(plain(self))

    @classmethod
    def from_json(cls, text: str) -> MountSettings:
        """What `to_json` wrote. Errors: `ConfigError`."""
        return build(json.loads(text), cls)
