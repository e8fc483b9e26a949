"""What may be chosen about how a repository looks as a file system, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cernvm.fs.vfs.magic import MagicSettings
from cernvm.fs.vfs.owners import OwnerSettings


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """How entries are shown.

    Shape: `variables` fill in variant symlinks, which without `expands_links` are shown as they are stored; `record` is
    a file to which the first reads are written.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    owners: OwnerSettings = field(default_factory=OwnerSettings)
    record: Path | None = None
    magic: MagicSettings = field(default_factory=MagicSettings)
    expands_links: bool = True
