"""Where a site has its repositories mounted: what instances' roots and /cvmfs are made of, and the twin."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cernvm.core.errors import NotFoundError
from cernvm.site.exports import Mounted


class Trees(Protocol):
    """The repositories of one site; the real one is `exports.RepositoryMounts`."""

    async def mounted(self, name: str) -> Mounted:
        """The mounted tree of a repository, mounting it first if need be.

        A new `generation` means that whoever holds an older mount must let go of it.
        Errors: `NotFoundError` for one the site does not have, `UnavailableError` for one that cannot be mounted.
        """


@dataclass(slots=True)
class FolderTrees:
    """The twin: plain folders; `remount` makes a generation."""

    folders: dict[str, Path] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)

    async def mounted(self, name: str) -> Mounted:
        if name not in self.folders:
            raise NotFoundError("repository of this site", name)
        return Mounted(self.folders[name], self.generations.get(name, 1))

    def remount(self, name: str) -> None:
        """Behave as if the mount had died and come back."""
        self.generations[name] = self.generations.get(name, 1) + 1
