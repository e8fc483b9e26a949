"""One revision of a repository, as a reader sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cernvm.core.digest import Digest
from cernvm.fs.reader.tree import Tree


@dataclass(frozen=True, slots=True)
class Revision:
    """A root catalog that was verified, and the tree below it. Shape: `published_at` is None when unknown."""

    number: int
    root_catalog: Digest
    published_at: datetime | None
    tree: Tree
